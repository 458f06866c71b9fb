//! As whom a registry is asked, and who does not get to know that.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test that panics has failed")]

mod harness;

use harness::images::*;
use harness::proxy::{Action, Proxy};
use harness::registry::{Setup, TestRegistry, docker_config};
use harness::{NAME, have_registry, layer_contents, options, pull, registry_with, store};
use ignite_oci::{OciError, PullOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_docker_configuration() {
    if !have_registry() {
        return;
    }
    let image = TestImage::new("amd64", &[b"private"]);
    let setup = Setup { user: Some(("joe", "s:cret")), ..Setup::default() };
    let registry = TestRegistry::start(&setup);
    registry.push(&image, NAME, &setup);
    let (dir, store) = store();

    let error = pull(&store, &registry.address, NAME, &options()).await.unwrap_err();
    assert!(matches!(error, OciError::Unauthorized { with_credentials: false, .. }), "{error:?}");
    assert_eq!(
        error.hint().unwrap(),
        format!("log in, so that ~/.docker/config.json has credentials: ignite login {}", registry.address)
    );

    let configured = PullOptions { docker_config_dir: Some(dir.path().to_owned()), ..options() };
    docker_config(dir.path(), &registry.address, "joe", "wrong");
    let error = pull(&store, &registry.address, NAME, &configured).await.unwrap_err();
    assert!(matches!(error, OciError::Unauthorized { with_credentials: true, .. }), "{error:?}");

    docker_config(dir.path(), &registry.address, "joe", "s:cret");
    let stored = pull(&store, &registry.address, NAME, &configured).await.unwrap();
    assert_eq!(layer_contents(&store, &stored), image.tars);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_is_asked_and_asked_again_when_the_token_ends() {
    if !have_registry() {
        return;
    }
    let image = TestImage::new("amd64", &[&noise(11, 10_000)]);
    let registry = registry_with(&image);
    let (dir, store) = store();
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&issued);
    let blob = format!("/blobs/{}", image.layers[0].digest());
    let proxy = Proxy::start(&registry.address, move |request, before| {
        if request.path.starts_with("/token?") {
            // joe:secret
            if request.headers.get("authorization").is_none_or(|value| value != "Basic am9lOnNlY3JldA==") {
                return Action::Respond("401 Unauthorized", Vec::new(), r#"{"details":"no"}"#.to_owned());
            }
            assert!(
                request.path.contains("scope=repository%3Atest%2Fbusybox%3Apull&service=registry"),
                "{}",
                request.path
            );
            let number = counter.fetch_add(1, Ordering::SeqCst);
            return Action::Respond("200 OK", Vec::new(), format!(r#"{{"token":"t{number}"}}"#));
        }
        let token = request.headers.get("authorization").map(String::as_str);
        // The first token ends before the layer is asked for.
        let good = if request.path.ends_with(&blob) && before < 2 { "Bearer t1" } else { "Bearer t" };
        if token.is_some_and(|token| token.starts_with(good)) {
            return Action::Forward;
        }
        let host = request.headers["host"].clone();
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="registry""#);
        Action::Respond("401 Unauthorized", vec![("WWW-Authenticate", challenge)], String::new())
    });
    let error = pull(&store, &proxy.address, NAME, &options()).await.unwrap_err();
    assert!(matches!(error, OciError::Unauthorized { with_credentials: false, .. }), "{error:?}");

    docker_config(dir.path(), &proxy.address, "joe", "secret");
    let configured = PullOptions { docker_config_dir: Some(dir.path().to_owned()), ..options() };
    let stored = pull(&store, &proxy.address, NAME, &configured).await.unwrap();
    assert_eq!(layer_contents(&store, &stored), image.tars);
    assert_eq!(issued.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn nobody_leads_to_plain_http_elsewhere() {
    for header in [("Location", "307 Temporary Redirect"), ("WWW-Authenticate", "401 Unauthorized")] {
        let (name, status) = header;
        let value = if name == "Location" {
            "http://registry.invalid/v2/"
        } else {
            r#"Bearer realm="http://registry.invalid/token""#
        };
        let proxy = Proxy::start("127.0.0.1:9", move |_, _| {
            Action::Respond(status, vec![(name, value.to_owned())], String::new())
        });
        let (_dir, store) = store();
        let error = pull(&store, &proxy.address, NAME, &options()).await.unwrap_err();
        let OciError::PlainHttpRefused { host } = &error else { panic!("{name}: {error:?}") };
        assert_eq!(host, "registry.invalid");
        assert!(error.hint().unwrap().contains("plain http"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    if !have_registry() {
        return;
    }
    let image = TestImage::new("amd64", &[b"elsewhere"]);
    let registry = registry_with(&image);
    let storage = Proxy::start(&registry.address, |_, _| Action::Forward);
    let target = storage.address.clone();
    let proxy = Proxy::start(&registry.address, move |request, _| {
        if !request.headers.contains_key("authorization") {
            let challenge = "Basic realm=\"test\"".to_owned();
            return Action::Respond("401 Unauthorized", vec![("WWW-Authenticate", challenge)], String::new());
        }
        if request.path.contains("/blobs/") {
            let location = format!("http://{target}{}", request.path);
            return Action::Respond("307 Temporary Redirect", vec![("Location", location)], String::new());
        }
        Action::Forward
    });
    let (dir, store) = store();
    docker_config(dir.path(), &proxy.address, "joe", "secret");
    let configured = PullOptions { docker_config_dir: Some(dir.path().to_owned()), ..options() };
    let stored = pull(&store, &proxy.address, NAME, &configured).await.unwrap();
    assert_eq!(layer_contents(&store, &stored), image.tars);
    let followed = storage.requests("/blobs/");
    assert_eq!(followed.len(), 2);
    assert!(followed.iter().all(|request| !request.headers.contains_key("authorization")), "{followed:?}");
}
