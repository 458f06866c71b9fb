//! `login`: whether a registry takes a user and password, asked before they are kept.
//!
//! As Docker does it: `GET /v2/` (OCI distribution-spec 1.1, "Determining Support"), the challenge is answered, and a token
//! server is asked for a refresh token besides (`offline_token`), which is kept in place of the password where it gives one.

use super::authorization::{Challenge, basic, login_url, parse_challenge, parse_refresh_token, parse_token};
use super::client::RegistryClient;
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::places::{places, with_certificates};
use crate::limits::MAX_TOKEN_BYTES;
use crate::{OciError, PullOptions};
use ignite_api::ImageReference;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Response, StatusCode, Url};

/// Asks `registry` whether it takes them. Gives what is to be kept: the password, or the token it was exchanged for.
pub(crate) async fn check(
    registry: &str,
    user: &str,
    password: &str,
    options: &PullOptions,
) -> Result<Credentials, OciError> {
    let invalid = |reason| OciError::InvalidReference { reference: registry.to_owned(), reason };
    let reference = format!("{registry}/login").parse().map_err(|_| invalid("it is no registry"))?;
    let endpoint = endpoint(registry, &reference, options)?;
    if endpoint.registry != registry {
        return Err(invalid("a registry is a host name with a dot or a port"));
    }
    let client = RegistryClient::new(endpoint, options)?;
    let given = Credentials::Password { user: user.to_owned(), password: password.to_owned() };
    let refused = client.ping(None).await?;
    if refused.status().is_success() {
        // It lets everybody in; what was given may be meant for some of its repositories.
        return Ok(given);
    }
    let challenge = parse_challenge(refused.headers())
        .map_err(|challenge| OciError::UnsupportedChallenge { registry: registry.to_owned(), challenge })?;
    let (header, kept) = match challenge {
        Challenge::Basic => (basic(&given), given.clone()),
        Challenge::Bearer { realm, service } => client.exchange(&realm, service.as_deref(), user, &given).await?,
    };
    let header = header.ok_or_else(|| OciError::InvalidAnswer {
        registry: registry.to_owned(),
        what: "login".to_owned(),
        reason: "these credentials fit no header".to_owned(),
    })?;
    let answer = client.ping(Some(header)).await?;
    match answer.status().is_success() {
        true => Ok(kept),
        false => Err(client.login_error(answer, &given).await),
    }
}

/// The registry itself, as `registries.conf` says of it: insecure, or blocked. Its mirrors are registries of their own.
fn endpoint(registry: &str, reference: &ImageReference, options: &PullOptions) -> Result<Endpoint, OciError> {
    let places = places(reference, options).map_err(|error| match error {
        OciError::Blocked { prefix, .. } => OciError::Blocked { reference: registry.to_owned(), prefix },
        other => other,
    })?;
    match places.into_iter().rev().find(|place| place.registry == registry) {
        Some(place) => Ok(place),
        None => with_certificates(Endpoint::new(reference, options)?, options),
    }
}

impl RegistryClient {
    /// `GET /v2/`; the answer is a success or a challenge.
    async fn ping(&self, header: Option<HeaderValue>) -> Result<Response, OciError> {
        let make = |scheme: &str| {
            let url = self.url(&format!("{scheme}://{}/v2/", self.endpoint().host))?;
            Ok(self.http().get(url))
        };
        let response = self.ask(make, header.as_ref(), "login").await?;
        match response.status() {
            status if status.is_success() || status == StatusCode::UNAUTHORIZED => Ok(response),
            _ => Err(self.login_error(response, &Credentials::Anonymous).await),
        }
    }

    /// A token for the registry itself, and what is to be kept.
    async fn exchange(
        &self,
        realm: &Url,
        service: Option<&str>,
        user: &str,
        given: &Credentials,
    ) -> Result<(Option<HeaderValue>, Credentials), OciError> {
        self.check_realm(realm)?;
        let mut request = self.http().get(login_url(realm, service, user));
        if let Some(header) = basic(given) {
            request = request.header(AUTHORIZATION, header);
        }
        let response = self.answer(request, "token").await?;
        if !response.status().is_success() {
            return Err(self.login_error(response, given).await);
        }
        let body = self.read_body(response, "token", MAX_TOKEN_BYTES).await?;
        let header = parse_token(&body).map_err(|reason| OciError::InvalidAnswer {
            registry: self.endpoint().registry.clone(),
            what: "token".to_owned(),
            reason,
        })?;
        let kept = parse_refresh_token(&body).map_or_else(|| given.clone(), Credentials::IdentityToken);
        Ok((Some(header), kept))
    }

    async fn login_error(&self, response: Response, credentials: &Credentials) -> OciError {
        let registry = self.endpoint().registry.clone();
        let (status, retry_after) = (response.status(), super::client::retry_after(response.headers()));
        let message = self.message(response).await;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST
                if *credentials != Credentials::Anonymous =>
            {
                OciError::LoginRefused { registry, message }
            }
            StatusCode::TOO_MANY_REQUESTS => OciError::RateLimited { registry, message, retry_after },
            status => {
                OciError::Status { registry, what: "login".to_owned(), status: status.as_u16(), message, retry_after }
            }
        }
    }
}
