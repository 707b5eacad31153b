//! An HTTP server that answers as a test says, one request a connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub target: String,
    pub authorization: Option<String>,
    pub body: String,
}

pub enum Reply {
    Json(u16, String),
    /// Further headers, as they stand in the answer.
    With(u16, &'static str, String),
    Html(u16),
    /// Says that more bytes come than do.
    Half,
    /// Nothing, for so long.
    Silence(Duration),
    /// Closes the connection at once.
    Hang,
}

pub fn json(body: &str) -> Reply {
    Reply::Json(200, body.to_owned())
}

type Log = Arc<Mutex<Vec<Request>>>;

pub struct Server {
    pub url: String,
    log: Log,
}

impl Server {
    /// Answers by the number of the request, from 0, and the request.
    pub fn start(answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Log::default();
        let (kept, answer) = (Arc::clone(&log), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &log, answer.as_ref()));
            }
        });
        Self { url, log }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }
}

fn serve(
    stream: TcpStream,
    log: &Log,
    answer: &(impl Fn(usize, &Request) -> Reply + Send + Sync + 'static),
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(request) = read(&mut reader) else {
        return;
    };
    let number = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        log.len() - 1
    };
    write(stream, answer(number, &request));
}

pub fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let mut request = Request {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        ..Request::default()
    };
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => request.authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).ok()?;
    Some(request)
}

pub fn write(mut stream: impl Write, reply: Reply) {
    let (status, headers, body) = match reply {
        Reply::Json(status, body) => (status, "content-type: application/json\r\n", body),
        Reply::With(status, headers, body) => (status, headers, body),
        Reply::Html(status) => (
            status,
            "content-type: text/html\r\n",
            "<html><body>Sign in, please</body></html>".to_owned(),
        ),
        Reply::Half => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":");
            return;
        }
        Reply::Silence(time) => return std::thread::sleep(time),
        Reply::Hang => return,
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
    let _ = stream.flush();
}
