//! Answering a registry's challenge (Docker registry "Token Authentication Specification"; RFC 7617 for Basic).

use super::credentials::Credentials;
use crate::document::printable;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// The first challenge of `headers` that can be answered, Bearer before Basic; else what was asked, for the message.
pub(super) fn parse_challenge(headers: &HeaderMap) -> Result<Challenge, String> {
    let mut asked = String::new();
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        asked.push_str(text);
        // One malformed challenge must not hide the good ones before it.
        for challenge in http_auth::ChallengeParser::new(text).map_while(Result::ok) {
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            } else if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let parameter = |name: &str| {
                    let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                if let Some(realm) = parameter("realm").and_then(|realm| Url::parse(&realm).ok()) {
                    return Ok(Challenge::Bearer { realm, service: parameter("service") });
                }
            }
        }
    }
    basic.ok_or_else(|| if asked.is_empty() { "none".to_owned() } else { printable(&asked) })
}

/// How to ask a token server for permission to pull.
pub(super) enum TokenRequest {
    Get {
        url: Url,
        authorization: Option<HeaderValue>,
    },
    /// OAuth2 with a refresh token; the body is a form.
    Post {
        url: Url,
        form: String,
    },
}

/// The request for a token to pull `repository`.
pub(super) fn token_request(
    realm: &Url,
    service: Option<&str>,
    repository: &str,
    credentials: &Credentials,
) -> TokenRequest {
    let scope = format!("repository:{repository}:pull");
    match credentials {
        Credentials::IdentityToken(token) => {
            // A URL's query and a form are written alike.
            let mut form = realm.clone();
            form.set_query(None);
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "ignite")
                .append_pair("scope", &scope)
                .append_pair("service", service.unwrap_or_default())
                .append_pair("refresh_token", token);
            TokenRequest::Post { url: realm.clone(), form: form.query().unwrap_or_default().to_owned() }
        }
        Credentials::Anonymous | Credentials::Password { .. } => {
            let mut url = realm.clone();
            url.query_pairs_mut().append_pair("scope", &scope);
            if let Some(service) = service {
                url.query_pairs_mut().append_pair("service", service);
            }
            TokenRequest::Get { url, authorization: basic(credentials) }
        }
    }
}

/// The Basic header for a user and password.
pub(super) fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    match credentials {
        Credentials::Password { user, password } => {
            secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        }
        Credentials::Anonymous | Credentials::IdentityToken(_) => None,
    }
}

/// Where a token server is asked who `user` is, and for a refresh token in place of the password.
pub(super) fn login_url(realm: &Url, service: Option<&str>, user: &str) -> Url {
    let mut url = realm.clone();
    url.query_pairs_mut()
        .append_pair("account", user)
        .append_pair("client_id", "ignite")
        .append_pair("offline_token", "true");
    if let Some(service) = service {
        url.query_pairs_mut().append_pair("service", service);
    }
    url
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

/// The refresh token of a token server's answer, where it gives one.
pub(super) fn parse_refresh_token(body: &[u8]) -> Option<String> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    answer.refresh_token.filter(|token| !token.is_empty())
}

/// The Bearer header of a token server's answer.
pub(super) fn parse_token(body: &[u8]) -> Result<HeaderValue, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| format!("no token: {error}"))?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    let token = token.filter(|token| !token.is_empty()).ok_or("no token")?;
    secret(&format!("Bearer {token}")).ok_or_else(|| "a token that fits no header".to_owned())
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn challenge(values: &[&str]) -> Result<Challenge, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        parse_challenge(&headers)
    }

    #[test]
    fn challenges_are_understood() {
        let bearer =
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:x:pull""#;
        let expected = Challenge::Bearer {
            realm: Url::parse("https://auth.docker.io/token").unwrap(),
            service: Some("registry.docker.io".to_owned()),
        };
        assert_eq!(challenge(&[bearer]), Ok(expected.clone()));
        assert_eq!(challenge(&["Basic realm=\"x\"", bearer]), Ok(expected));
        assert_eq!(challenge(&["Basic realm=\"x\""]), Ok(Challenge::Basic));
        assert_eq!(challenge(&["Negotiate"]), Err("Negotiate".to_owned()));
        assert_eq!(challenge(&[]), Err("none".to_owned()));
        assert!(challenge(&["Bearer realm=\"not a url\""]).is_err());
    }

    #[test]
    fn token_requests_carry_scope_and_credentials() {
        let realm = Url::parse("https://auth.example/token?x=1").unwrap();
        let user = Credentials::Password { user: "joe".into(), password: "p&w".into() };
        let TokenRequest::Get { url, authorization } = token_request(&realm, Some("s v"), "a/b", &user) else {
            panic!("a form")
        };
        assert_eq!(url.query(), Some("x=1&scope=repository%3Aa%2Fb%3Apull&service=s+v"));
        assert_eq!(authorization.unwrap().to_str().unwrap(), "Basic am9lOnAmdw==");
        let refresh = Credentials::IdentityToken("a&b".into());
        let TokenRequest::Post { form, .. } = token_request(&realm, Some("s"), "a", &refresh) else {
            panic!("no form")
        };
        assert!(form.contains("refresh_token=a%26b") && form.contains("grant_type=refresh_token"), "{form}");
    }

    #[test]
    fn tokens_are_read_under_both_names() {
        for body in [r#"{"token":"t"}"#, r#"{"access_token":"t"}"#, r#"{"token":"","access_token":"t","expires_in":3}"#]
        {
            assert_eq!(parse_token(body.as_bytes()).unwrap().to_str().unwrap(), "Bearer t");
        }
        for body in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#] {
            assert!(parse_token(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn foreign_challenges_never_panic(text in "[ -~]{0,80}") {
            let _ = challenge(&[&text]);
            let _ = challenge(&[&format!("Bearer {text}")]);
        }
    }
}
