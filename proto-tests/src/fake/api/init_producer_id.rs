//! InitProducerId, key 22, versions 0–5. Leaves out transactional ids. A producer id and epoch in the request are ignored,
//! as a real broker does without a transactional id.

use super::{Api, Call, Reply};
use crate::fake::code;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

impl Api for InitProducerIdRequest {
    async fn handle(self, call: &Call) -> Reply<InitProducerIdResponse> {
        if self.transactional_id.is_some() {
            return Reply::Answer(self.refuse(call, code::INVALID_REQUEST));
        }
        let mut state = call.shared.lock();
        let id = state.next_producer_id;
        state.next_producer_id += 1;
        let response = InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0);
        Reply::Answer(response)
    }

    fn refuse(&self, _: &Call, error: i16) -> InitProducerIdResponse {
        let none = InitProducerIdResponse::default().with_error_code(error);
        none.with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
    }

    fn set_throttle(response: &mut InitProducerIdResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}
