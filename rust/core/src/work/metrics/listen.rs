//! What a worker answers to who asks: `/metrics`, `/healthz`, `/readyz` and `/replicas`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{Board, Phase, prometheus};
use crate::error::{Error, Result};

/// Connections served at once; others wait.
const CONNECTIONS: usize = 64;
/// A caller that has not said what it wants by then is hung up on.
const HEAD: Duration = Duration::from_secs(10);
/// After a connection could not be taken (no file handle is left).
const PAUSE: Duration = Duration::from_millis(100);
const TEXT: &str = "text/plain; charset=utf-8";

/// An address and a port, as somebody wrote them.
///
/// # Errors
/// [`Error::Listen`] if they are none.
pub fn address(text: &str) -> Result<SocketAddr> {
    let wrong = || "expected ADDRESS:PORT, the address as numbers".to_owned();
    text.trim().parse().map_err(|_| no_address(text, wrong()))
}

fn no_address(address: &str, reason: String) -> Error {
    let address = address.to_owned();
    Error::Listen { address, reason }
}

/// A server that ends when it goes.
#[derive(Debug)]
pub struct Listener {
    pub address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Listener {
    /// Listens and serves, on the current runtime. Port 0: any that is free.
    ///
    /// # Errors
    /// [`Error::Listen`] if the address can't be had.
    pub async fn start(address: SocketAddr, board: Arc<Board>) -> Result<Self> {
        let wrong = |e: std::io::Error| no_address(&address.to_string(), e.to_string());
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        let serving = tokio::spawn(serve(listener, board));
        Ok(Self { address, serving })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, board: Arc<Board>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Closed with this task: connections go when it goes.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let board = Arc::clone(&board);
        connections.spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.method(), request.uri().path(), &board);
                async move { Ok::<_, Infallible>(answer) }
            });
            // Whoever hung up needs no answer.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
            drop(place);
        });
    }
}

fn answer(method: &Method, path: &str, board: &Board) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
    }
    match path {
        "/metrics" => match prometheus::page(board.workers()) {
            Ok(page) => response(StatusCode::OK, prometheus::CONTENT_TYPE, page),
            Err(_) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the page can't be written\n",
            ),
        },
        "/healthz" => match board.stuck_for() {
            None => text(StatusCode::OK, "alive\n"),
            Some(time) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the consumer has not come round for {} s\n", time.as_secs()),
            ),
        },
        "/readyz" => match board.phase() {
            Phase::Ready => text(StatusCode::OK, "ready\n"),
            Phase::Starting => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the service starts, or the group is not joined yet\n",
            ),
            Phase::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "the worker ends\n"),
        },
        "/replicas" => match board.desired_replicas() {
            Some(n) => {
                let json = json!({"desired_replicas": n}).to_string();
                response(StatusCode::OK, "application/json", json)
            }
            None => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "how many workers there should be is not known yet\n",
            ),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz, /readyz and /replicas\n",
        ),
    }
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<Full<Bytes>> {
    response(status, TEXT, text.into())
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    async fn get(listener: &Listener, path: &str) -> (u16, String, String) {
        let url = format!("http://{}{path}", listener.address);
        let answer = reqwest::get(url).await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().into();
        (answer.status().as_u16(), kind, answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn probes_follow_the_worker_through_its_life() {
        let metrics = Arc::new(example());
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::start(any, Board::of(&metrics)).await.unwrap();
        assert_eq!(get(&listener, "/healthz").await.0, 200);
        assert_eq!(get(&listener, "/readyz").await.0, 503);
        assert_eq!(get(&listener, "/replicas").await.0, 503);
        metrics.set_phase(Phase::Ready);
        metrics.set_desired_replicas(3);
        assert_eq!(get(&listener, "/readyz").await.0, 200);
        let (status, kind, body) = get(&listener, "/replicas").await;
        assert_eq!(
            (status, kind.as_str(), body.as_str()),
            (200, "application/json", "{\"desired_replicas\":3}")
        );
        metrics.set_phase(Phase::Draining);
        let (status, _, body) = get(&listener, "/readyz").await;
        assert_eq!((status, body.as_str()), (503, "the worker ends\n"));
        let (status, kind, page) = get(&listener, "/metrics").await;
        assert_eq!((status, kind.as_str()), (200, prometheus::CONTENT_TYPE));
        assert!(page.ends_with("# EOF\n"));
        assert_eq!(get(&listener, "/").await.0, 404);
        let post = answer(&Method::POST, "/metrics", &Board::of(&metrics));
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn a_taken_port_is_told_by_name() {
        let metrics = Arc::new(example());
        let any = "127.0.0.1:0".parse().unwrap();
        let first = Listener::start(any, Board::of(&metrics)).await.unwrap();
        let error = Listener::start(first.address, Board::of(&metrics))
            .await
            .unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&first.address.to_string()), "{said}");
        assert!(said.contains("--listen"), "{said}");
    }

    #[test]
    fn an_address_is_numbers_with_a_port() {
        assert_eq!(address("127.0.0.1:9464").unwrap().port(), 9464);
        assert!(address("[::1]:0").is_ok());
        for wrong in ["9464", "localhost:9464", "127.0.0.1", "127.0.0.1:99999"] {
            let said = address(wrong).unwrap_err().to_string();
            assert!(
                said.contains(wrong) && said.contains("ADDRESS:PORT"),
                "{said}"
            );
        }
    }
}
