//! `indelible group lag`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indelible::types::TopicPartition;
use indelible::{Admin, AdminError, CommittedOffset, GroupDescription, GroupMember, MetadataError, OffsetSpec};

use super::{connect, named};
use crate::args::GroupOptions;
use crate::failure::Failure;
use crate::{json, out, table};

/// One partition as the group has it.
struct Row<'a> {
    partition: &'a TopicPartition,
    committed: Option<&'a CommittedOffset>,
    /// Where the log begins and ends; none when its topic is gone.
    log: Option<(i64, i64)>,
    member: Option<&'a GroupMember>,
}

impl Row<'_> {
    fn lag(&self) -> Option<i64> {
        Some((self.log?.1 - self.committed?.offset).max(0))
    }

    fn note(&self) -> Option<String> {
        let Some((first, end)) = self.log else { return Some("there is no such partition".to_owned()) };
        let offset = self.committed?.offset;
        (offset < first || offset > end).then(|| format!("the log has {first} to {end}"))
    }
}

pub(super) async fn run(options: &GroupOptions) -> Result<(), Failure> {
    let client = connect(&options.cluster).await?;
    let admin = client.admin();
    let failed = |error: AdminError| Failure::admin(&error);
    let group = admin.describe_group(&*options.group).await.map_err(failed)?;
    let committed = admin.group_offsets(&*options.group).await.map_err(failed)?;
    let members: BTreeMap<&TopicPartition, &GroupMember> =
        group.members.iter().flat_map(|member| member.assignment.iter().map(move |held| (held, member))).collect();
    let partitions: BTreeSet<&TopicPartition> = committed.keys().chain(members.keys().copied()).collect();
    let logs = logs(&admin, &partitions).await.map_err(failed)?;
    let rows: Vec<Row<'_>> = partitions
        .into_iter()
        .map(|partition| Row {
            partition,
            committed: committed.get(partition),
            log: logs.get(partition).copied(),
            member: members.get(partition).copied(),
        })
        .collect();
    match options.json {
        true => out::write(&document(&group, &rows)),
        false => out::write(told(&group, &rows).as_bytes()),
    }
}

/// How many partitions each of these topics has, of those that there are: what a group has committed outlives its topic for
/// a while.
pub(super) async fn partition_counts(
    admin: &Admin,
    topics: BTreeSet<&Arc<str>>,
) -> Result<BTreeMap<Arc<str>, usize>, AdminError> {
    let mut counts = BTreeMap::new();
    for topic in topics {
        match admin.describe_topics([topic.clone()]).await {
            Ok(described) => counts.extend(described.into_iter().map(|found| (found.name, found.partitions.len()))),
            Err(AdminError::Metadata(MetadataError::UnknownTopic { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(counts)
}

/// Where the logs begin and end, of the partitions that there are.
pub(super) async fn logs(
    admin: &Admin,
    partitions: &BTreeSet<&TopicPartition>,
) -> Result<BTreeMap<TopicPartition, (i64, i64)>, AdminError> {
    let topics: BTreeSet<&Arc<str>> = partitions.iter().map(|partition| &partition.topic).collect();
    let counts = partition_counts(admin, topics).await?;
    let is_there = |partition: &TopicPartition| {
        let count = counts.get(&partition.topic).copied().unwrap_or_default();
        usize::try_from(partition.partition).is_ok_and(|index| index < count)
    };
    let there: Vec<TopicPartition> = partitions.iter().copied().filter(|one| is_there(one)).cloned().collect();
    // The end last: a record that comes in between makes no lag below 0.
    let first = admin.list_offsets(there.iter().cloned(), OffsetSpec::Beginning).await?;
    let end = admin.list_offsets(there, OffsetSpec::End).await?;
    let both = |(partition, end): (TopicPartition, i64)| {
        let first = first.get(&partition).copied()?;
        Some((partition, (first, end)))
    };
    Ok(end.into_iter().filter_map(both).collect())
}

fn total(rows: &[Row<'_>]) -> i64 {
    rows.iter().filter_map(Row::lag).sum()
}

fn told(group: &GroupDescription, rows: &[Row<'_>]) -> String {
    if rows.is_empty() {
        return format!("group {}: {}; it has committed nothing and holds no partitions\n", group.name, group.state);
    }
    let or_dash = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let mut lines =
        vec![["partition", "committed", "end", "lag", "member", "client", "host"].map(str::to_owned).to_vec()];
    let notes = rows.iter().any(|row| row.note().is_some());
    if notes {
        lines[0].push("note".to_owned());
    }
    for row in rows {
        let of_member = |told: fn(&GroupMember) -> &str| row.member.map_or("-", told).to_owned();
        let mut line = vec![
            row.partition.to_string(),
            or_dash(row.committed.map(|committed| committed.offset)),
            or_dash(row.log.map(|log| log.1)),
            or_dash(row.lag()),
            of_member(named),
            of_member(|member| &member.client_id),
            of_member(|member| &member.host),
        ];
        if notes {
            line.push(row.note().unwrap_or_default());
        }
        lines.push(line);
    }
    let unknown = rows.iter().filter(|row| row.lag().is_none()).count();
    let known = rows.len() - unknown;
    let sum = match (known, unknown) {
        (0, _) => "total lag not known".to_owned(),
        (1, 0) => format!("total lag {} in 1 partition", total(rows)),
        (_, 0) => format!("total lag {} in {known} partitions", total(rows)),
        _ => format!("total lag {} in {known} of {} partitions, not known of the others", total(rows), rows.len()),
    };
    let members = table::counted(group.members.len() as u64, "member", "members");
    format!("group {}: {}, {members}\n\n{}\n{sum}\n", group.name, group.state, table::lines(&lines))
}

fn document(group: &GroupDescription, rows: &[Row<'_>]) -> Vec<u8> {
    json::object(|o| {
        o.text("group", &group.name);
        o.text("state", &group.state);
        o.value("members", group.members.len());
        o.value("lag", total(rows));
        o.list("partitions", rows, |o, row| {
            o.text("topic", &row.partition.topic);
            o.value("partition", row.partition.partition);
            o.maybe("committed", row.committed.map(|committed| committed.offset));
            o.maybe("leader_epoch", row.committed.and_then(|committed| committed.leader_epoch));
            o.maybe_text("metadata", row.committed.map(|committed| committed.metadata.as_str()));
            o.maybe("first", row.log.map(|log| log.0));
            o.maybe("end", row.log.map(|log| log.1));
            o.maybe("lag", row.lag());
            o.maybe_text("member", row.member.map(|member| member.id.as_str()));
            o.maybe_text("instance", row.member.and_then(|member| member.instance_id.as_deref()));
            o.maybe_text("client", row.member.map(|member| member.client_id.as_str()));
            o.maybe_text("host", row.member.map(|member| member.host.as_str()));
        });
    })
}
