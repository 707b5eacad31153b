//! A service for benchmarks: any request is answered with when its work began and ended, in ns; the work is waiting for
//! so many milliseconds, with as many requests at once as come. `stub_server MS` prints its address and serves for ever.

use std::convert::Infallible;
use std::error::Error;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args().nth(1).ok_or("stub_server MS")?;
    let work = Duration::from_millis(given.parse()?);
    let began = Instant::now();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let serve = service_fn(move |request: Request<Incoming>| answer(request, work, began));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
    }
}

async fn answer(
    request: Request<Incoming>,
    work: Duration,
    began: Instant,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let at = began.elapsed().as_nanos();
    // The whole request is read, as a service would.
    let _ = request.into_body().collect().await;
    if !work.is_zero() {
        tokio::time::sleep(work).await;
    }
    let ended = began.elapsed().as_nanos();
    let body = format!("{{\"begun\":{at},\"ended\":{ended}}}");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}
