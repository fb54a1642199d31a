//! `indelible group`: consumer groups looked at, and set back or forth.

mod describe;
mod lag;
mod list;
mod reset;

use indelible::types::TopicPartition;
use indelible::{Client, GroupMember};

use crate::args::{ClusterOptions, GroupCommand};
use crate::config;
use crate::failure::Failure;

/// Runs one of the commands.
pub(crate) async fn run(command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::List(options) => list::run(&options).await,
        GroupCommand::Describe(options) => describe::run(&options).await,
        GroupCommand::Lag(options) => lag::run(&options).await,
        GroupCommand::Reset(options) => reset::run(&options).await,
    }
}

async fn connect(options: &ClusterOptions) -> Result<Client, Failure> {
    let (builder, others) = config::client(options)?;
    // Properties of producers and consumers have no meaning here: the client says so.
    config::connect(others.client(builder)).await
}

/// A member as a person tells it from others: its instance id if it has one, else its member id.
fn named(member: &GroupMember) -> &str {
    member.instance_id.as_deref().unwrap_or(&member.id)
}

/// `orders-0 to 3, payments-1`.
fn ranges(partitions: &[TopicPartition]) -> String {
    let mut text = String::new();
    let next_to = |a: &TopicPartition, b: &TopicPartition| a.topic == b.topic && a.partition + 1 == b.partition;
    for run in partitions.chunk_by(next_to) {
        let [first, rest @ ..] = run else { continue };
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&first.to_string());
        if let Some(last) = rest.last() {
            text.push_str(&format!(" to {}", last.partition));
        }
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_told_in_runs() {
        let told = |partitions: &[(&str, i32)]| {
            ranges(&partitions.iter().map(|(topic, index)| TopicPartition::new(*topic, *index)).collect::<Vec<_>>())
        };
        assert_eq!(told(&[]), "-");
        assert_eq!(told(&[("a", 0), ("a", 1), ("a", 2), ("a", 4), ("b", 5)]), "a-0 to 2, a-4, b-5");
        assert_eq!(told(&[("a", i32::MAX - 1)]), format!("a-{}", i32::MAX - 1));
    }
}
