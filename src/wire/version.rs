//! Which API in which version: the keys, their header layouts, and what a broker offers.

use std::fmt;

use super::requests::api_versions::ApiVersionsResponse;
use super::{ErrorCode, Request, WireError};

macro_rules! api_keys {
    ($($name:ident = $key:literal, flexible from $flexible:literal;)*) => {
        /// The APIs this client uses, by their key on the wire. See <https://kafka.apache.org/protocol#protocol_api_keys>.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        #[allow(missing_docs, reason = "the names are Kafka's own")]
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// All of them.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name),*];

            /// The API's name as Kafka's protocol guide writes it.
            pub fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }

            /// The first version with compact lengths and tagged fields (KIP-482).
            fn flexible_from(self) -> i16 {
                match self {
                    $(ApiKey::$name => $flexible,)*
                }
            }
        }
    };
}

api_keys! {
    Produce = 0, flexible from 9;
    Fetch = 1, flexible from 12;
    ListOffsets = 2, flexible from 6;
    Metadata = 3, flexible from 9;
    OffsetCommit = 8, flexible from 8;
    OffsetFetch = 9, flexible from 6;
    FindCoordinator = 10, flexible from 3;
    JoinGroup = 11, flexible from 6;
    Heartbeat = 12, flexible from 4;
    LeaveGroup = 13, flexible from 4;
    SyncGroup = 14, flexible from 4;
    DescribeGroups = 15, flexible from 5;
    ListGroups = 16, flexible from 3;
    SaslHandshake = 17, flexible from 0x7fff;
    ApiVersions = 18, flexible from 3;
    CreateTopics = 19, flexible from 5;
    DeleteTopics = 20, flexible from 4;
    InitProducerId = 22, flexible from 2;
    OffsetForLeaderEpoch = 23, flexible from 4;
    DescribeConfigs = 32, flexible from 4;
    SaslAuthenticate = 36, flexible from 2;
    DeleteGroups = 42, flexible from 2;
    DescribeProducers = 61, flexible from 0;
    ConsumerGroupHeartbeat = 68, flexible from 0;
    ConsumerGroupDescribe = 69, flexible from 0;
}

impl ApiKey {
    /// Whether bodies in `version` have compact lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }

    /// The versions of the request header and of the response header that go with `version` of the body.
    pub fn header_versions(self, version: i16) -> (i16, i16) {
        match (self, self.is_flexible(version)) {
            (_, false) => (1, 0),
            // KIP-511: a broker may not know the version asked for, so its answer must be readable without it.
            (ApiKey::ApiVersions, true) => (2, 0),
            (_, true) => (2, 1),
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one broker offers, as it said on this connection.
///
/// How a client asks: it sends ApiVersions in its own highest version. A broker that does not know that version answers
/// error 35 (UNSUPPORTED_VERSION) in the layout of version 0; since Kafka 2.4 (KIP-511) that answer names the range of
/// ApiVersions itself, before it is empty. Then [`ApiVersionsResponse::retry_version`] says which version to ask again in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiVersions {
    /// Key, lowest and highest version; sorted by key.
    ranges: Vec<(i16, i16, i16)>,
}

impl ApiVersions {
    /// Takes over what the broker answered.
    pub fn new(response: &ApiVersionsResponse) -> ApiVersions {
        let mut ranges = response.apis.clone();
        ranges.sort_unstable();
        ApiVersions { ranges }
    }

    /// The versions of `api` that the broker speaks; none when it does not know it.
    pub fn range(&self, api: ApiKey) -> Option<(i16, i16)> {
        let at = self.ranges.binary_search_by_key(&(api as i16), |range| range.0).ok()?;
        self.ranges.get(at).map(|range| (range.1, range.2))
    }

    /// The highest version that both sides speak.
    ///
    /// # Errors
    /// [`WireError::Unsupported`] when there is none, with a hint what to do.
    pub fn pick<R: Request>(&self) -> Result<i16, WireError> {
        self.pick_at_most::<R>(i16::MAX)
    }

    /// The highest version up to `ceiling` that both sides speak: for what only older versions can say, such as topics
    /// by name while their ids are unknown.
    ///
    /// # Errors
    /// [`WireError::Unsupported`] when there is none, with a hint what to do.
    pub fn pick_at_most<R: Request>(&self, ceiling: i16) -> Result<i16, WireError> {
        let broker = self.range(R::KEY);
        let client = (R::VERSIONS.0, R::VERSIONS.1.min(ceiling));
        match broker {
            Some((min, max)) if min.max(client.0) <= max.min(client.1) => Ok(max.min(client.1)),
            _ => Err(WireError::Unsupported { api: R::KEY, broker, client, hint: hint(R::KEY, broker, client) }),
        }
    }
}

impl ApiVersionsResponse {
    /// The version to ask again in after error 35 (see [`ApiVersions`]); none when there is no reason to.
    pub fn retry_version(&self) -> Option<i16> {
        (self.error == ErrorCode::UNSUPPORTED_VERSION).then(|| {
            let offered = self.apis.iter().find(|api| api.0 == ApiKey::ApiVersions as i16);
            offered.map_or(0, |api| api.2.clamp(0, 3))
        })
    }
}

fn hint(api: ApiKey, broker: Option<(i16, i16)>, client: (i16, i16)) -> &'static str {
    match (api, broker) {
        (ApiKey::DescribeProducers, None) => "brokers before 2.8 cannot be asked what a producer has written",
        (ApiKey::ConsumerGroupHeartbeat, _) => {
            "brokers before 4.0 have no consumer protocol: set group.protocol=classic"
        }
        (ApiKey::InitProducerId, None) => "brokers before 0.11 have no idempotent producers",
        (_, None) => "the broker, or this kind of listener, does not serve this API",
        (_, Some((min, _))) if min > client.1 => {
            "the broker has dropped all versions that this client speaks: upgrade it"
        }
        _ => "brokers before 2.1 are not supported",
    }
}
