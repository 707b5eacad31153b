//! Snapshots in an object store: moto's S3, a real server, and a proxy before it that fails. `KAPPAFLOW_TEST_PYTHON` is a
//! Python that has it.

use std::collections::BTreeMap;
use std::net::TcpListener as Listener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use kappaflow_core::Error;
use kappaflow_core::rows::FileRows;
use kappaflow_core::snapshot::{Reach, Snapshot, View};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// moto's server, ended with the test.
struct Moto {
    process: Child,
    port: u16,
}

impl Moto {
    /// Takes so many requests without looking at who sends them.
    async fn start(unchecked: u32) -> Self {
        let python = std::env::var("KAPPAFLOW_TEST_PYTHON")
            .expect("set KAPPAFLOW_TEST_PYTHON to a Python with moto[server] (`make test` does)");
        let port = Listener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let command = Command::new(python)
            .args([
                "-m",
                "moto.server",
                "-H",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ])
            .env("INITIAL_NO_AUTH_ACTION_COUNT", unchecked.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let moto = Self {
            process: command.unwrap(),
            port,
        };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return moto;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("moto does not listen");
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn bucket(&self, name: &str) -> AmazonS3 {
        let made = reqwest::Client::new().put(format!("{}/{name}", self.endpoint()));
        assert!(made.send().await.unwrap().status().is_success());
        let mut builder = AmazonS3Builder::new().with_bucket_name(name);
        for (key, value) in options(&self.endpoint()) {
            builder = builder.with_config(key.parse().unwrap(), value);
        }
        builder.build().unwrap()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn options(endpoint: &str) -> BTreeMap<String, String> {
    let options = [
        ("endpoint", endpoint),
        ("region", "us-east-1"),
        ("access_key_id", "key"),
        ("secret_access_key", "not-to-be-shown"),
        ("allow_http", "true"),
    ];
    options.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

/// A Parquet file of three row groups with the numbers from `first` on, and text that is large enough for gaps.
fn parquet(first: i64) -> Vec<u8> {
    let x: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + 30));
    let text = (0..30).map(|i| format!("{i}-{}", "long ".repeat(40)));
    let text: ArrayRef = Arc::new(StringArray::from_iter_values(text));
    let batch = RecordBatch::try_from_iter([("x", x), ("text", text)]).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(10))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

async fn put(store: &AmazonS3, key: &str, bytes: Vec<u8>) {
    store
        .put(&key.into(), PutPayload::from(bytes))
        .await
        .unwrap();
}

/// As a stage does it: off the runtime's threads.
async fn blocking<T: Send + 'static>(of: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(of).await.unwrap()
}

async fn pin(endpoint: &str, url: &str) -> Result<Snapshot, Error> {
    let (reach, url) = (Reach::new("/".as_ref(), options(endpoint)), url.to_owned());
    blocking(move || Snapshot::pin(&url, &reach, View::default())).await
}

/// The numbers of all files.
async fn numbers(snapshot: &Snapshot) -> Result<Vec<i64>, Error> {
    let snapshot = snapshot.clone();
    blocking(move || {
        let mut all = Vec::new();
        for (file, pinned) in snapshot.files.iter().enumerate() {
            let groups = 0..pinned.row_groups.len();
            for batch in FileRows::open(&snapshot, file, groups, "job", &|_| true)? {
                all.extend(batch?.column(0).as_primitive::<Int64Type>().values());
            }
        }
        Ok(all)
    })
    .await
}

fn refused(error: Error, changed: bool, words: &[&str]) {
    let is_right = match changed {
        true => matches!(error, Error::SourceChanged { .. }),
        false => matches!(error, Error::Source { .. }),
    };
    assert!(is_right, "{error:?}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("not-to-be-shown"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_a_glob_and_an_object_are_pinned_and_read_exactly() {
    let moto = Moto::start(u32::MAX).await;
    let store = moto.bucket("lake").await;
    put(&store, "t/day=2/b.parquet", parquet(100)).await;
    put(&store, "t/day=1/a.parquet", parquet(0)).await;
    put(&store, "t/day=1/_SUCCESS", Vec::new()).await;
    put(&store, "t/_temporary/c.parquet", parquet(500)).await;
    put(&store, "t2/d.parquet", parquet(900)).await;

    let whole = pin(&moto.endpoint(), "s3://lake/t").await.unwrap();
    let paths: Vec<_> = whole.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["day=1/a.parquet", "day=2/b.parquet"]);
    assert_eq!(whole.files[1].hive["day"], "2");
    assert!(whole.files[0].etag.is_some());
    let expected: Vec<i64> = (0..30).chain(100..130).collect();
    assert_eq!(numbers(&whole).await.unwrap(), expected);

    let globbed = pin(&moto.endpoint(), "s3://lake/t/day=*/*.parquet")
        .await
        .unwrap();
    assert_eq!(globbed.digest(), whole.digest());
    let one = pin(&moto.endpoint(), "s3://lake/t/day=2/b.parquet")
        .await
        .unwrap();
    assert_eq!(numbers(&one).await.unwrap(), expected[30..]);

    let none = pin(&moto.endpoint(), "s3://lake/nowhere")
        .await
        .err()
        .unwrap();
    refused(none, false, &["s3://lake/nowhere", "no Parquet file"]);
    let bucket = pin(&moto.endpoint(), "s3://no-such-bucket/t")
        .await
        .err()
        .unwrap();
    refused(bucket, false, &["s3://no-such-bucket/t", "NoSuchBucket"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_replaced_cut_or_removed_is_refused_by_what_differs() {
    let moto = Moto::start(u32::MAX).await;
    let store = moto.bucket("lake").await;
    put(&store, "t/a.parquet", parquet(0)).await;
    let snapshot = pin(&moto.endpoint(), "s3://lake/t").await.unwrap();

    // Open, with its first row group on the way, and then another object.
    let reading = snapshot.clone();
    let (opened, wait) = (tokio::sync::oneshot::channel(), std::sync::mpsc::channel());
    let reader = tokio::task::spawn_blocking(move || {
        let mut rows = FileRows::open(&reading, 0, 0..3, "job", &|_| true).unwrap();
        opened.0.send(()).unwrap();
        wait.1.recv().unwrap();
        rows.find_map(Result::err)
    });
    opened.1.await.unwrap();
    let mut same_size = parquet(0);
    let at = same_size.len() / 3;
    same_size[at] ^= 1;
    put(&store, "t/a.parquet", same_size).await;
    wait.0.send(()).unwrap();
    refused(
        reader.await.unwrap().unwrap(),
        true,
        &["etag", "s3://lake/t/a.parquet"],
    );
    refused(
        numbers(&snapshot).await.unwrap_err(),
        true,
        &["etag", "--new-snapshot"],
    );

    let mut cut = parquet(0);
    cut.truncate(700);
    put(&store, "t/a.parquet", cut).await;
    refused(
        numbers(&snapshot).await.unwrap_err(),
        true,
        &["not a Parquet file"],
    );
    refused(
        pin(&moto.endpoint(), "s3://lake/t").await.err().unwrap(),
        false,
        &["s3://lake/t/a.parquet", "700 bytes"],
    );
    store.delete(&"t/a.parquet".into()).await.unwrap();
    refused(numbers(&snapshot).await.unwrap_err(), true, &["gone"]);

    put(&store, "t/a.parquet", parquet(0)).await;
    assert_eq!(
        numbers(&snapshot).await.unwrap(),
        (0..30).collect::<Vec<_>>(),
        "put back"
    );
}

/// Answers the first requests itself, `answer` each, and hands the others to a server.
async fn proxy(to: u16, first: usize, answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                if count.fetch_add(1, Ordering::SeqCst) < first {
                    let mut asked = [0; 4096];
                    let _ = tokio::io::AsyncReadExt::read(&mut client, &mut asked).await;
                    let text = format!(
                        "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    );
                    let _ = client.write_all(text.as_bytes()).await;
                    let _ = client.shutdown().await;
                } else if let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    (format!("http://127.0.0.1:{port}"), seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_busy_is_asked_again_and_one_that_refuses_says_why() {
    let moto = Moto::start(u32::MAX).await;
    let store = moto.bucket("lake").await;
    put(&store, "t/a.parquet", parquet(0)).await;
    let (busy, seen) = proxy(moto.port, 4, "503 Slow Down").await;
    let snapshot = pin(&busy, "s3://lake/t").await.unwrap();
    assert!(seen.load(Ordering::SeqCst) > 4);
    assert_eq!(
        numbers(&snapshot).await.unwrap(),
        (0..30).collect::<Vec<_>>()
    );

    let strict = Moto::start(0).await;
    let denied = pin(&strict.endpoint(), "s3://lake/t").await.err().unwrap();
    refused(denied, false, &["s3://lake/t", "403", "privileges"]);
}
