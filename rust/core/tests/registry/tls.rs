//! TLS with an authority of one's own, and mutual TLS, with certificates made here.

use std::path::Path;
use std::sync::Arc;

use kappaflow_core::registry::{RegistryError, RegistryTable};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::{asked, open, table};

struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// A registry that speaks TLS; with `clients` it wants a certificate of that authority.
async fn serve(authority: &Authority, clients: Option<&Authority>) -> String {
    let (certificate, key) = authority.sign("127.0.0.1");
    let builder = match clients {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .unwrap();
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\n[\"tls\"]";
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    url
}

fn write(dir: &Path, name: &str, text: &str) -> Option<String> {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    Some(path.display().to_string())
}

async fn subjects(settings: RegistryTable) -> Result<Vec<String>, RegistryError> {
    asked(&open(settings).unwrap(), |r| r.subjects()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_ones_own_is_trusted_if_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let mut settings = table(&[&serve(&authority, None).await]);
    let error = subjects(settings.clone()).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unavailable { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("certificate"), "{error}");
    settings.ca_file = write(dir.path(), "ca.pem", &authority.pem);
    assert_eq!(subjects(settings).await.unwrap(), ["tls"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, clients) = (Authority::new(), Authority::new());
    let mut settings = table(&[&serve(&servers, Some(&clients)).await]);
    settings.ca_file = write(dir.path(), "ca.pem", &servers.pem);
    let error = subjects(settings.clone()).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unavailable { .. }),
        "{error}"
    );

    let (stranger, key) = servers.sign("stranger");
    settings.cert_file = write(dir.path(), "cert.pem", &stranger.pem());
    settings.key_file = write(dir.path(), "key.pem", &key.serialize_pem());
    assert!(subjects(settings.clone()).await.is_err());

    let (known, key) = clients.sign("known");
    settings.cert_file = write(dir.path(), "cert.pem", &known.pem());
    settings.key_file = write(dir.path(), "key.pem", &key.serialize_pem());
    assert_eq!(subjects(settings).await.unwrap(), ["tls"]);
}
