//! `indelible group reset`: first what it would do, and with `--yes` what it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indelible::types::TopicPartition;
use indelible::{Admin, AdminError, GroupMember};

use super::{connect, lag, named};
use crate::args::ResetOptions;
use crate::failure::Failure;
use crate::place::Place;
use crate::{config, json, out, table};

/// How many members a sentence names.
const NAMED: usize = 5;

/// What becomes of one partition.
struct Step {
    partition: TopicPartition,
    committed: Option<i64>,
    to: i64,
    /// Where the log begins and ends, when the offset that was asked for is not in it.
    outside: Option<(i64, i64)>,
}

impl Step {
    /// `5 again`, `5 left out`.
    fn change(&self) -> String {
        match self.committed.map(|committed| self.to - committed) {
            None => "begins".to_owned(),
            Some(0) => "-".to_owned(),
            Some(further) if further > 0 => format!("{further} left out"),
            Some(back) => format!("{} again", -back),
        }
    }
}

pub(super) async fn run(options: &ResetOptions) -> Result<(), Failure> {
    let place = Place::parse(&options.to).map_err(|error| Failure::usage(format!("--to: {error}")))?;
    let wanted = options.topics.iter().map(|text| parse_topic(text)).collect::<Result<Vec<_>, _>>()?;
    let client = connect(&options.look.cluster).await?;
    let admin = client.admin();
    let name = &*options.look.group;
    let members = match admin.describe_group(name).await {
        Ok(group) => group.members,
        // A new group begins somewhere else than auto.offset.reset says.
        Err(AdminError::GroupNotFound { .. }) if !wanted.is_empty() => Vec::new(),
        Err(error) => return Err(Failure::admin(&error)),
    };
    if options.yes && !members.is_empty() {
        return Err(Failure::cluster(format!(
            "group {name:?} has {}: they would commit over it, so stop them first; nothing was changed",
            told_members(&members)
        )));
    }
    let failed = |error: AdminError| Failure::admin(&error);
    let committed = admin.group_offsets(name).await.map_err(failed)?;
    let committed: BTreeMap<TopicPartition, i64> =
        committed.into_iter().map(|(partition, committed)| (partition, committed.offset)).collect();
    let partitions = match wanted.is_empty() {
        true => of_the_group(&admin, name, &committed).await?,
        false => partitions(&client, &wanted).await?,
    };
    let steps = steps(&admin, place, partitions, &committed).await.map_err(failed)?;
    if options.yes {
        let offsets = steps.iter().map(|step| (step.partition.clone(), step.to));
        admin.commit_group_offsets(name, offsets).await.map_err(|error| match error {
            AdminError::GroupHasMembers { .. } => Failure::cluster(format!("{error}; nothing was changed")),
            error => Failure::admin(&error),
        })?;
    }
    if options.look.json {
        return out::write(&document(name, &steps, &members, options.yes));
    }
    let mut told = table::lines(&rows(&steps));
    told.push_str(&match (options.yes, members.is_empty()) {
        (true, _) => format!("\ndone: group {name} goes on there\n"),
        (false, true) => "\nnothing is changed yet: --yes does it\n".to_owned(),
        (false, false) => format!(
            "\nnothing is changed yet, and --yes would be refused: the group has {}; stop them first\n",
            told_members(&members)
        ),
    });
    out::write(told.as_bytes())
}

/// `T` or `T:P`.
fn parse_topic(text: &str) -> Result<(Arc<str>, Option<i32>), Failure> {
    match text.split_once(':') {
        None => Ok((Arc::from(text), None)),
        Some((topic, partition)) => match partition.parse::<i32>() {
            Ok(partition) if partition >= 0 => Ok((Arc::from(topic), Some(partition))),
            _ => Err(Failure::usage(format!(
                "--topic {text:?}: {partition:?} is no partition; give TOPIC, or TOPIC:N with its number"
            ))),
        },
    }
}

/// All partitions of all topics that the group has committed for, those included that were added since.
async fn of_the_group(
    admin: &Admin,
    name: &str,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeSet<TopicPartition>, Failure> {
    let topics: BTreeSet<&Arc<str>> = committed.keys().map(|partition| &partition.topic).collect();
    if topics.is_empty() {
        return Err(Failure::cluster(format!(
            "group {name:?} has committed nothing, so which topics are meant? Name them by --topic"
        )));
    }
    let counts = lag::partition_counts(admin, topics).await.map_err(|error| Failure::admin(&error))?;
    let partitions: BTreeSet<TopicPartition> = counts.iter().flat_map(|(topic, count)| all_of(topic, *count)).collect();
    if partitions.is_empty() {
        return Err(Failure::cluster(format!(
            "none of the topics that group {name:?} has committed for exists any more"
        )));
    }
    Ok(partitions)
}

/// The partitions that were named.
async fn partitions(
    client: &indelible::Client,
    wanted: &[(Arc<str>, Option<i32>)],
) -> Result<BTreeSet<TopicPartition>, Failure> {
    let described = config::describe(client, wanted.iter().map(|(topic, _)| &**topic)).await?;
    let mut partitions = BTreeSet::new();
    for ((name, wanted), topic) in wanted.iter().zip(&described) {
        match wanted {
            None => partitions.extend(all_of(name, topic.partitions.len())),
            Some(index) if usize::try_from(*index).is_ok_and(|index| index < topic.partitions.len()) => {
                partitions.insert(TopicPartition::new(name.clone(), *index));
            }
            Some(index) => {
                return Err(Failure::cluster(format!(
                    "topic {name:?} has no partition {index}: it has {}, numbered from 0",
                    topic.partitions.len()
                )));
            }
        }
    }
    Ok(partitions)
}

fn all_of(topic: &Arc<str>, count: usize) -> impl Iterator<Item = TopicPartition> {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    (0..count).map(|index| TopicPartition::new(topic.clone(), index))
}

async fn steps(
    admin: &Admin,
    place: Place,
    partitions: BTreeSet<TopicPartition>,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<Vec<Step>, AdminError> {
    let step = |partition: TopicPartition, to: i64, outside: Option<(i64, i64)>| {
        let committed = committed.get(&partition).copied();
        Step { partition, committed, to, outside }
    };
    match place {
        Place::Offset(offset) => {
            let logs = lag::logs(admin, &partitions.iter().collect()).await?;
            let step = |(partition, (first, end)): (TopicPartition, (i64, i64))| {
                let to = offset.clamp(first, end.max(first));
                step(partition, to, (to != offset).then_some((first, end)))
            };
            Ok(logs.into_iter().map(step).collect())
        }
        Place::Spec(spec) => {
            let found = admin.list_offsets(partitions, spec).await?;
            Ok(found.into_iter().map(|(partition, to)| step(partition, to, None)).collect())
        }
    }
}

/// `2 members (till-1, client "c" at 10.0.0.7; ...)`.
fn told_members(members: &[GroupMember]) -> String {
    let told = |member: &GroupMember| format!("{}, client {:?} at {}", named(member), member.client_id, member.host);
    let mut shown: Vec<String> = members.iter().take(NAMED).map(told).collect();
    if members.len() > NAMED {
        shown.push(format!("{} more", members.len() - NAMED));
    }
    format!("{} ({})", table::counted(members.len() as u64, "member", "members"), shown.join("; "))
}

fn rows(steps: &[Step]) -> Vec<Vec<String>> {
    let mut rows = vec![["partition", "committed", "new", "records"].map(str::to_owned).to_vec()];
    let notes = steps.iter().any(|step| step.outside.is_some());
    if notes {
        rows[0].push("note".to_owned());
    }
    for step in steps {
        let mut row = vec![
            step.partition.to_string(),
            step.committed.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            step.to.to_string(),
            step.change(),
        ];
        if notes {
            let outside = step.outside.map(|(first, end)| format!("as near as can be: the log has {first} to {end}"));
            row.push(outside.unwrap_or_default());
        }
        rows.push(row);
    }
    rows
}

fn document(name: &str, steps: &[Step], members: &[GroupMember], done: bool) -> Vec<u8> {
    json::object(|o| {
        o.text("group", name);
        o.value("done", done);
        o.value("members", members.len());
        o.list("partitions", steps, |o, step| {
            o.text("topic", &step.partition.topic);
            o.value("partition", step.partition.partition);
            o.maybe("committed", step.committed);
            o.value("new", step.to);
            o.value("outside", step.outside.is_some());
        });
    })
}
