//! Of several operators one works: who holds a Lease (coordination.k8s.io/v1), by the rules of client-go's leader election.
//!
//! A holder writes the Lease every `retry`; who has not managed to for `renew` stops at once, and who has seen it unchanged
//! for `duration` takes it. Clocks of different machines are never compared.

use super::MANAGER;
use crate::error::OperatorError;
use ignite_api::error_chain::chain_of;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Which Lease, and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// This operator, and no other.
    pub identity: String,
    /// How long the others wait for a holder that says nothing.
    pub duration: Duration,
    /// How long a holder that cannot renew it goes on; less than `duration`.
    pub renew: Duration,
    /// Pause between two attempts.
    pub retry: Duration,
}

impl LeaseOptions {
    /// The times of Kubernetes' own components: 15 s, 10 s, 2 s.
    pub fn new(namespace: impl Into<String>, identity: impl Into<String>) -> LeaseOptions {
        LeaseOptions {
            namespace: namespace.into(),
            name: MANAGER.to_owned(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Waits until the Lease is ours.
pub async fn acquire(client: Client, options: LeaseOptions) -> Result<Holder, OperatorError> {
    let api = Api::namespaced(client, &options.namespace);
    let mut holder = Holder { api, options, renewed: Instant::now(), seen: None, told: None };
    let mut failures = 0_u32;
    loop {
        match holder.attempt().await {
            Ok(true) => break,
            Ok(false) => failures = 0,
            // Wrong rights do not pass; a server that is away does, and another that was faster is no failure.
            Err(error) if matches!(error.status(), Some(401 | 403 | 404)) => return Err(error),
            Err(error) if error.status() == Some(409) => {}
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!("{}", chain_of(&error));
            }
        }
        sleep(holder.options.retry * (1 + failures.min(4))).await;
    }
    tracing::info!("{} holds the lease {}", holder.options.identity, holder.name());
    Ok(holder)
}

/// Who holds a Lease.
#[derive(Debug)]
pub struct Holder {
    api: Api<Lease>,
    options: LeaseOptions,
    /// When the write was sent that took or renewed it last: the others count from no earlier moment.
    renewed: Instant,
    /// The Lease as it was seen last, and when it was seen so first.
    seen: Option<(Lease, Instant)>,
    /// Whom we have told to hold it.
    told: Option<String>,
}

impl Holder {
    /// Does `work` while the Lease is ours, then gives it back. [`OperatorError::LeaseLost`]: `work` was dropped where it was.
    pub async fn lead<T>(mut self, work: impl Future<Output = T>) -> Result<T, OperatorError> {
        let result = tokio::select! {
            result = work => Some(result),
            () = self.keep() => None,
        };
        match result {
            Some(result) => {
                self.release().await;
                Ok(result)
            }
            None => Err(OperatorError::LeaseLost { lease: self.name() }),
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.options.namespace, self.options.name)
    }

    /// Takes or renews it; false: it is another's.
    async fn attempt(&mut self) -> Result<bool, OperatorError> {
        let Some(found) = self.read().await? else {
            self.write(None).await?;
            return Ok(true);
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| seen.metadata.resource_version != found.metadata.resource_version)
        {
            self.seen = Some((found.clone(), Instant::now()));
        }
        let spec = found.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        // What its holder said of itself counts, as it may be of another version.
        let promised = Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).max(0).unsigned_abs().into());
        let is_stale =
            self.seen.as_ref().is_some_and(|(_, since)| since.elapsed() > promised.max(self.options.duration));
        if holder.is_empty() || holder == self.options.identity || is_stale {
            self.write(Some(found)).await?;
            return Ok(true);
        }
        if self.told.as_ref() != Some(&holder) {
            tracing::info!("{holder} holds the lease {}", self.name());
            self.told = Some(holder);
        }
        Ok(false)
    }

    /// Renews it until that has failed, or not been answered, for too long.
    async fn keep(&mut self) {
        loop {
            let deadline = self.renewed + self.options.renew;
            let pause = sleep(self.options.retry);
            let attempt = async {
                pause.await;
                self.attempt().await
            };
            match timeout_at(deadline, attempt).await {
                Ok(Ok(true)) => {}
                // Somebody has taken it: that is no passing trouble.
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => tracing::warn!("{}", chain_of(&error)),
            }
        }
    }

    /// Gives it back, so that the next one need not wait.
    async fn release(&mut self) {
        let Ok(Some(mut found)) = self.read().await else { return };
        let spec = found.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.options.identity) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        let params = PostParams::default();
        let _ = timeout(self.options.renew, self.api.replace(&self.options.name, &params, &found)).await;
    }

    async fn read(&self) -> Result<Option<Lease>, OperatorError> {
        self.answer("read", self.api.get_opt(&self.options.name)).await
    }

    /// Makes it ours, if it is still what was `found`; else the server answers 409.
    async fn write(&mut self, found: Option<Lease>) -> Result<(), OperatorError> {
        let now = MicroTime(Timestamp::now());
        let is_new = found.is_none();
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.options.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let before = lease.spec.take().unwrap_or_default();
        let was_ours = before.holder_identity.as_deref() == Some(&self.options.identity);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.options.duration.as_secs().max(1)).unwrap_or(i32::MAX)),
            acquire_time: if was_ours { before.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!was_ours && !is_new)),
            ..LeaseSpec::default()
        });
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let sent = Instant::now();
        let lease = match is_new {
            true => self.answer("create", self.api.create(&params, &lease)).await?,
            false => self.answer("renew", self.api.replace(&self.options.name, &params, &lease)).await?,
        };
        self.renewed = sent;
        self.seen = Some((lease, Instant::now()));
        Ok(())
    }

    async fn answer<T>(
        &self,
        action: &'static str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, OperatorError> {
        let object = format!("Lease {}", self.name());
        match timeout(self.options.renew, request).await {
            Err(_) => Err(OperatorError::NoAnswer { action, object, waited: self.options.renew }),
            Ok(answer) => answer.map_err(|source| OperatorError::Api { action, object, source: Box::new(source) }),
        }
    }
}
