//! How a registry is reached: through a proxy or not, by TLS or plain http.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test that panics has failed")]

mod harness;

use harness::certificate::self_signed;
use harness::images::TestImage;
use harness::proxy::{Action, Proxy};
use harness::registry::{Setup, TestRegistry};
use harness::{have, options};
use ignite_oci::{OciError, Proxies, PullOptions, resolve_digest};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

async fn ask(reference: &str, options: &PullOptions) -> Result<String, OciError> {
    resolve_digest(&reference.parse().unwrap(), options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_asked_for_all_hosts_but_those_excepted() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let answer = digest.clone();
    let proxy = Proxy::start("127.0.0.1:9", move |_, _| {
        Action::Respond("200 OK", vec![("Docker-Content-Digest", answer.clone())], String::new())
    });
    let through = |except: &str| PullOptions {
        plain_http_hosts: vec!["reg.invalid".to_owned()],
        retries: 0,
        proxies: Proxies {
            http: Some(format!("joe:s%3Acret@{}", proxy.address)),
            https: None,
            except: Some(except.to_owned()),
        },
        ..options()
    };
    for except in ["", "other.invalid", ".reg.invalid", "reg.invalid:5000"] {
        assert_eq!(ask("reg.invalid/a:v1", &through(except)).await.unwrap(), digest, "{except}");
    }
    let seen = proxy.requests("");
    assert_eq!((seen.len(), seen[0].path.as_str()), (4, "http://reg.invalid/v2/a/manifests/v1"));
    assert_eq!(seen[0].headers["proxy-authorization"], "Basic am9lOnM6Y3JldA==");
    for except in ["reg.invalid", "invalid", "*", "reg.invalid:80"] {
        let error = ask("reg.invalid/a:v1", &through(except)).await.unwrap_err();
        assert!(matches!(error, OciError::Unreachable { .. }), "{except}: {error:?}");
    }
    assert_eq!(proxy.requests("").len(), 4);
}

#[tokio::test]
async fn a_proxy_that_is_none_is_told_without_its_password() {
    let proxies = Proxies { http: Some("http://joe:secret@pro xy:1".to_owned()), ..Proxies::default() };
    let error = ask("reg.invalid/a", &PullOptions { proxies, ..options() }).await.unwrap_err();
    assert!(matches!(error, OciError::InvalidProxy { .. }), "{error:?}");
    assert!(error.to_string().contains("pro xy:1") && !error.to_string().contains("secret"), "{error}");
}

/// Stands before a TLS server and hangs up on whoever speaks plain http; ends with the test's process.
fn hang_up_on_plain(upstream: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, upstream) = (listener.local_addr().unwrap().to_string(), upstream.to_owned());
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let upstream = upstream.clone();
            std::thread::spawn(move || {
                let mut first = [0];
                // The first record of a handshake (RFC 8446 §5.1).
                if client.read_exact(&mut first).is_err() || first[0] != 22 {
                    return;
                }
                let mut server = TcpStream::connect(upstream).unwrap();
                server.write_all(&first).unwrap();
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let _ = std::io::copy(&mut client, &mut server);
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insecure_registry_that_hangs_up_on_plain_http_is_spoken_to_by_tls() {
    if !have(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { tls: Some(self_signed(dir.path(), "server")), ..Setup::default() };
    let registry = TestRegistry::start(&setup);
    let image = TestImage::new("amd64", &[b"tls"]);
    registry.push(&image, "test/busybox:v1", &setup);
    let address = hang_up_on_plain(&registry.address);
    let reference = format!("{address}/test/busybox:v1");

    let error = ask(&reference, &options()).await.unwrap_err();
    assert!(matches!(error, OciError::Untrusted { .. }), "{error:?}");
    let insecure = PullOptions { insecure_hosts: vec![format!("https://{address}/")], ..options() };
    assert_eq!(ask(&reference, &insecure).await.unwrap(), image.manifest.digest());
    let keeping = PullOptions { docker_config_dir: Some(dir.path().join("docker")), ..insecure };
    let login = ignite_oci::login(&address, "joe", "secret", &keeping).await;
    assert!(login.is_ok(), "{login:?}");

    // The same, called insecure by registries.conf.
    let conf = dir.path().join("registries.conf");
    std::fs::write(&conf, format!("[[registry]]\nlocation = '{address}'\ninsecure = true\n")).unwrap();
    let configured = PullOptions { registries_conf: vec![conf], insecure_hosts: Vec::new(), ..keeping };
    assert_eq!(ask(&reference, &configured).await.unwrap(), image.manifest.digest());
    let login = ignite_oci::login(&address, "joe", "secret", &configured).await;
    assert!(login.is_ok(), "{login:?}");
}

#[tokio::test]
async fn an_identity_token_is_exchanged_and_a_busy_token_server_waited_for() {
    let digest = format!("sha256:{}", "b".repeat(64));
    let answer = digest.clone();
    let server = Proxy::start("127.0.0.1:9", move |request, before| {
        if request.path == "/token" {
            let json = request.headers.get("content-type").map(String::as_str);
            assert_eq!((request.method.as_str(), json), ("POST", Some("application/x-www-form-urlencoded")));
            assert!(!request.headers.contains_key("authorization"));
            return match before {
                0 => Action::Respond("429 Too Many Requests", vec![("Retry-After", "1".to_owned())], String::new()),
                _ => Action::Respond("200 OK", Vec::new(), r#"{"access_token":"short"}"#.to_owned()),
            };
        }
        if request.headers.get("authorization").is_some_and(|header| header == "Bearer short") {
            return Action::Respond("200 OK", vec![("Docker-Content-Digest", answer.clone())], String::new());
        }
        let challenge = format!(r#"Bearer realm="http://{}/token",service="s""#, request.headers["host"]);
        Action::Respond("401 Unauthorized", vec![("WWW-Authenticate", challenge)], String::new())
    });
    let dir = tempfile::tempdir().unwrap();
    let config = serde_json::json!({"auths": {server.address.clone(): {"identitytoken": "refresh"}}});
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let configured = PullOptions { docker_config_dir: Some(dir.path().to_owned()), ..options() };
    let begin = std::time::Instant::now();
    assert_eq!(ask(&format!("{}/a:v1", server.address), &configured).await.unwrap(), digest);
    assert!(begin.elapsed() >= std::time::Duration::from_secs(1), "Retry-After was not obeyed");
    assert_eq!(server.requests("/token").len(), 2);
}

#[tokio::test]
async fn a_login_heeds_that_a_registry_is_blocked() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("registries.conf");
    std::fs::write(&conf, "[[registry]]\nlocation = 'reg.invalid'\nblocked = true\n").unwrap();
    let configured =
        PullOptions { registries_conf: vec![conf], docker_config_dir: Some(dir.path().to_owned()), ..options() };
    let error = ignite_oci::login("reg.invalid", "joe", "secret", &configured).await.unwrap_err();
    assert_eq!(error.to_string(), "reg.invalid is blocked by registries.conf (reg.invalid)");
}
