//! Connections to a gRPC server, and unary calls on them. Messages go as bytes, so that one that can't be read is told from
//! a call that failed.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures_util::FutureExt;
use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status};

use crate::http::{Files, USER_AGENT};
use crate::job::grpc::GrpcEndpoint;

/// Longest time for a connection; calls have deadlines of their own.
const CONNECT: Duration = Duration::from_secs(10);
/// A peer that is gone without a word is noticed by then.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

const UNREADABLE: &str = "it answered with a status that can't be read";

/// Connections that calls share in turn; made when they are first used, and anew when they break.
pub struct Channels {
    channels: Vec<Channel>,
    next: AtomicUsize,
    max_message: usize,
}

impl Channels {
    /// Within the runtime that the calls are made in.
    ///
    /// # Errors
    /// What of the settings can't be used.
    pub fn new(of: &GrpcEndpoint, base: &Path) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(of.url.clone())
            .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
            .map_err(|e| format!("url {:?} can't be used: {}", of.url, causes(&e)))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(KEEP_ALIVE));
        let endpoint = match of.url.starts_with("https://") {
            false => endpoint,
            true => endpoint
                .tls_config(tls(of, base)?)
                .map_err(|e| format!("its TLS settings can't be used: {}", causes(&e)))?,
        };
        let channel = || match &of.unix_socket {
            None => endpoint.connect_lazy(),
            Some(path) => {
                let path = base.join(path);
                let connect = move |_: Uri| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                };
                endpoint.connect_with_connector_lazy(tower::service_fn(connect))
            }
        };
        Ok(Self {
            channels: (0..of.connections).map(|_| channel()).collect(),
            next: AtomicUsize::new(0),
            max_message: of.max_message(),
        })
    }

    /// A message there, a message back.
    pub async fn call(
        &self,
        path: &'static str,
        metadata: MetadataMap,
        message: Bytes,
    ) -> Result<Bytes, Status> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let channel = self.channels.get(turn % self.channels.len().max(1));
        let Some(channel) = channel else {
            return Err(Status::internal("no connection"));
        };
        let mut client = Grpc::new(channel.clone())
            .max_decoding_message_size(self.max_message)
            .max_encoding_message_size(self.max_message);
        client
            .ready()
            .await
            .map_err(|e| Status::from_error(Box::new(e)))?;
        let request = Request::from_parts(metadata, tonic::Extensions::default(), message);
        let path = PathAndQuery::from_static(path);
        // tonic panics where the details of a status are no base64.
        match AssertUnwindSafe(client.unary(request, path, Raw))
            .catch_unwind()
            .await
        {
            Ok(answered) => answered.map(Response::into_inner),
            Err(_) => Err(Status::internal(UNREADABLE)),
        }
    }
}

fn tls(of: &GrpcEndpoint, base: &Path) -> Result<ClientTlsConfig, String> {
    let files = Files {
        base,
        ca_file: of.ca_file.as_deref(),
        cert_file: of.cert_file.as_deref(),
        key_file: of.key_file.as_deref(),
    };
    let mut tls = ClientTlsConfig::new().with_native_roots();
    if let Some(pem) = files.authorities()? {
        tls = tls.ca_certificate(Certificate::from_pem(pem));
    }
    if let Some((cert, key)) = files.identity()? {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    Ok(tls)
}

/// The innermost cause: the outer ones say little.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |cause| cause.source());
    chain.last().map(ToString::to_string).unwrap_or_default()
}

/// Bytes as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tonic::Code;

    use super::*;

    const PREFACE: usize = 24;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    /// Of a HEADERS frame: the headers end with it, and so does the stream.
    const ENDS: u8 = 5;
    const ACK: u8 = 1;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// Answers one call with these headers, as HTTP/2 has them.
    async fn answer(listener: TcpListener, headers: &[(&str, &str)]) {
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.read_exact(&mut [0; PREFACE]).await.unwrap();
        peer.write_all(&frame(SETTINGS, 0, 0, b"")).await.unwrap();
        let stream = loop {
            let mut head = [0; 9];
            peer.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            peer.read_exact(&mut vec![0; length as usize])
                .await
                .unwrap();
            if head[3] == HEADERS {
                break u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            }
        };
        // `:status: 200` is in the table of HPACK, the others are literals.
        let mut block = vec![0x88];
        for (name, value) in headers {
            block.push(0);
            for text in [name, value] {
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        }
        let answer = [
            frame(SETTINGS, ACK, 0, b""),
            frame(HEADERS, ENDS, stream, &block),
        ];
        peer.write_all(&answer.concat()).await.unwrap();
        // Until the other one has it.
        let _ = peer.read_to_end(&mut Vec::new()).await;
    }

    #[tokio::test]
    async fn details_that_are_no_base64_are_a_failed_call() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let settings = serde_json::json!({"url": url});
        let endpoint: GrpcEndpoint = serde_json::from_value(settings).unwrap();
        let channels = Channels::new(&endpoint, Path::new(".")).unwrap();
        let server = answer(
            listener,
            &[
                ("content-type", "application/grpc"),
                ("grpc-status", "3"),
                ("grpc-status-details-bin", "!!!"),
            ],
        );
        let call = channels.call("/a/b", MetadataMap::new(), Bytes::new());
        let status = tokio::select! {
            called = call => called.unwrap_err(),
            () = server => unreachable!("the connection stays open"),
        };
        assert_eq!(
            (status.code(), status.message()),
            (Code::Internal, UNREADABLE)
        );
    }
}
