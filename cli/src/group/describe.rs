//! `indelible group describe`.

use indelible::types::TopicPartition;
use indelible::{GroupDescription, GroupMember};

use super::{connect, ranges};
use crate::args::GroupOptions;
use crate::failure::Failure;
use crate::json::{self, Object};
use crate::{out, table};

pub(super) async fn run(options: &GroupOptions) -> Result<(), Failure> {
    let client = connect(&options.cluster).await?;
    let group = client.admin().describe_group(&*options.group).await.map_err(|error| Failure::admin(&error))?;
    match options.json {
        true => out::write(&document(&group)),
        false => out::write(told(&group).as_bytes()),
    }
}

fn told(group: &GroupDescription) -> String {
    let mut told = format!("group {}: {}, {}", group.name, group.kind, group.state);
    if !group.assignor.is_empty() {
        told.push_str(&format!(", assigned by {}", group.assignor));
    }
    told.push_str(&format!("; coordinator is broker {}\n", group.coordinator));
    if group.members.is_empty() {
        told.push_str("it has no members\n");
        return told;
    }
    let moves = group.members.iter().any(|member| member.target.is_some());
    let mut heading = ["member", "instance", "client", "host", "partitions"].map(str::to_owned).to_vec();
    if moves {
        heading.push("to have".to_owned());
    }
    let rows = group.members.iter().map(|member| {
        let mut row = vec![
            member.id.clone(),
            member.instance_id.clone().unwrap_or_else(|| "-".to_owned()),
            member.client_id.clone(),
            member.host.clone(),
            ranges(&member.assignment),
        ];
        if moves {
            row.push(ranges(member.target.as_deref().unwrap_or(&member.assignment)));
        }
        row
    });
    told.push('\n');
    told.push_str(&table::lines(&std::iter::once(heading).chain(rows).collect::<Vec<_>>()));
    told
}

fn document(group: &GroupDescription) -> Vec<u8> {
    json::object(|o| {
        o.text("group", &group.name);
        o.text("type", &group.kind.to_string());
        o.text("state", &group.state);
        o.text("protocol_type", &group.protocol_type);
        o.text("assignor", &group.assignor);
        o.value("coordinator", group.coordinator);
        o.list("members", &group.members, push_member);
    })
}

fn push_member(o: &mut Object<'_>, member: &GroupMember) {
    o.text("member", &member.id);
    o.maybe_text("instance", member.instance_id.as_deref());
    o.text("client", &member.client_id);
    o.text("host", &member.host);
    o.list("partitions", &member.assignment, push_partition);
    o.list("to_have", member.target.as_deref().unwrap_or(&member.assignment), push_partition);
}

fn push_partition(o: &mut Object<'_>, partition: &TopicPartition) {
    o.text("topic", &partition.topic);
    o.value("partition", partition.partition);
}
