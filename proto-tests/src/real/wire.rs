//! One request over one connection, blocking: all that the harness itself needs of the protocol.
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// A healthy broker of an idle cluster answers in milliseconds; a paused one never does.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Answers about a test's topics are some kilobytes.
const MAX_RESPONSE_BYTES: usize = 16 << 20;
const CORRELATION_ID: i32 = 1;

/// Sends `request` to `address` and waits for the answer.
pub(super) fn call<R: Request>(address: &str, request: &R, version: i16) -> io::Result<R::Response> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(CORRELATION_ID)
        .with_client_id(Some(StrBytes::from_static_str("indelible-harness")));
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version)).map_err(io::Error::other)?;
    request.encode(&mut body, version).map_err(io::Error::other)?;

    let socket: SocketAddr = address.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&socket, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.set_nodelay(true)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&body)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_RESPONSE_BYTES {
        return Err(io::Error::other(format!("{address} announced a response of {length} bytes")));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    let mut answer = Bytes::from(answer);
    let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version)).map_err(io::Error::other)?;
    if header.correlation_id != CORRELATION_ID {
        return Err(io::Error::other(format!("{address} answered request {}", header.correlation_id)));
    }
    R::Response::decode(&mut answer, version).map_err(io::Error::other)
}
