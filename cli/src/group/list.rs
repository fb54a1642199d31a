//! `indelible group list`.

use indelible::GroupListing;

use super::connect;
use crate::args::GroupListOptions;
use crate::failure::Failure;
use crate::{json, out, table};

pub(super) async fn run(options: &GroupListOptions) -> Result<(), Failure> {
    let client = connect(&options.cluster).await?;
    let groups = client.admin().list_groups().await.map_err(|error| Failure::admin(&error))?;
    match options.json {
        true => out::write(&document(&groups)),
        false => out::write(table::lines(&rows(&groups)).as_bytes()),
    }
}

fn rows(groups: &[GroupListing]) -> Vec<Vec<String>> {
    let mut rows = vec![["group", "type", "state", "coordinator"].map(str::to_owned).to_vec()];
    for group in groups {
        rows.push(vec![
            group.name.to_string(),
            group.kind.to_string(),
            group.state.clone().unwrap_or_else(|| "-".to_owned()),
            group.coordinator.to_string(),
        ]);
    }
    rows
}

fn document(groups: &[GroupListing]) -> Vec<u8> {
    json::object(|o| {
        o.list("groups", groups, |o, group| {
            o.text("group", &group.name);
            o.text("type", &group.kind.to_string());
            o.maybe_text("state", group.state.as_deref());
            o.text("protocol_type", &group.protocol_type);
            o.value("coordinator", group.coordinator);
        });
    })
}
