//! Connections to a gRPC server, and unary calls on them. Messages go as bytes, so that one that can't be read is told from
//! a call that failed.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::http::{Files, USER_AGENT};
use crate::job::grpc::GrpcEndpoint;

/// Longest time for a connection; calls have deadlines of their own.
const CONNECT: Duration = Duration::from_secs(10);
/// A peer that is gone without a word is noticed by then.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

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
        let response = client.unary(request, path, Raw).await?;
        Ok(response.into_inner())
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
