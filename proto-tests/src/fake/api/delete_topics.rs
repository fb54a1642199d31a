//! DeleteTopics, key 20, versions 1–6 (by id from 6).

use super::{Api, Call, Reply, topic_name};
use crate::fake::code;
use crate::fake::state::State;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use uuid::Uuid;

impl Api for DeleteTopicsRequest {
    async fn handle(self, call: &Call) -> Reply<DeleteTopicsResponse> {
        let results = {
            let mut state = call.shared.lock();
            let asked = asked(&self);
            asked.into_iter().map(|(name, id)| delete(call, &mut state, name, id)).collect()
        };
        call.shared.ring();
        Reply::Answer(DeleteTopicsResponse::default().with_responses(results))
    }

    fn refuse(&self, call: &Call, error: i16) -> DeleteTopicsResponse {
        let results = asked(self).into_iter().map(|(name, id)| row(call, name, id, error)).collect();
        DeleteTopicsResponse::default().with_responses(results)
    }

    fn set_throttle(response: &mut DeleteTopicsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn asked(request: &DeleteTopicsRequest) -> Vec<(Option<String>, Uuid)> {
    let old = request.topic_names.iter().map(|name| (Some(name.to_string()), Uuid::nil()));
    let new = request.topics.iter().map(|topic| (topic.name.as_ref().map(|name| name.to_string()), topic.topic_id));
    old.chain(new).collect()
}

fn delete(call: &Call, state: &mut State, name: Option<String>, id: Uuid) -> DeletableTopicResult {
    let known = match name {
        Some(name) => Some(name),
        None => state.topic_names.get(&id).cloned(),
    };
    let Some(name) = known else { return row(call, None, id, code::UNKNOWN_TOPIC_ID) };
    let id = state.topics.get(&name).map_or(id, |topic| topic.id);
    let error = if state.delete_topic(&name) { code::NONE } else { code::UNKNOWN_TOPIC_OR_PARTITION };
    row(call, Some(name), id, error)
}

fn row(call: &Call, name: Option<String>, id: Uuid, error: i16) -> DeletableTopicResult {
    let mut row = DeletableTopicResult::default();
    row.name = name.map(|name| topic_name(&name));
    row.error_code = error;
    if call.version >= 6 {
        row.topic_id = id;
    }
    row
}
