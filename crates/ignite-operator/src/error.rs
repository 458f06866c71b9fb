//! What can go wrong between the operator and the API server.

use std::time::Duration;
use thiserror::Error;

/// An operation that failed; it is tried again, ever more slowly.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// The API server refused it, or could not be asked.
    #[error("could not {action} {object}: {source}")]
    Api {
        /// What was to be done.
        action: &'static str,
        /// To which object: `Pod default/web`.
        object: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("could not {action} {object}: no answer within {} s", waited.as_secs())]
    NoAnswer {
        /// What was to be done.
        action: &'static str,
        /// To which object.
        object: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The custom resources are not there, or may not be listed.
    #[error("could not list {what}: {source}")]
    Unlisted {
        /// `vms.ignite.weave.works` and their namespace.
        what: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// Another operator works now, or may: this one has stopped.
    #[error("the lease {lease} is lost")]
    LeaseLost {
        /// Its namespace and name.
        lease: String,
    },
    /// A task of ours has ended that must not.
    #[error("the watch of the cluster has ended")]
    WatchLost,
}

impl OperatorError {
    /// The HTTP status with which the API server refused it.
    pub fn status(&self) -> Option<u16> {
        match self {
            OperatorError::Api { source, .. } | OperatorError::Unlisted { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            OperatorError::NoAnswer { .. } | OperatorError::LeaseLost { .. } | OperatorError::WatchLost => None,
        }
    }

    /// Whether what was to be made is there: a 409 may as well be about something else, such as a quota that was just counted.
    pub(crate) fn is_there_already(&self) -> bool {
        match self {
            OperatorError::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => status.code == 409 && status.reason == "AlreadyExists",
                _ => false,
            },
            OperatorError::Unlisted { .. }
            | OperatorError::NoAnswer { .. }
            | OperatorError::LeaseLost { .. }
            | OperatorError::WatchLost => false,
        }
    }

    /// Whether the server does not want it as it is, whenever it is asked: a quota, a webhook, a rule.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.status(), Some(400 | 403 | 422))
    }

    /// The next step.
    pub fn hint(&self) -> Option<&'static str> {
        match (self, self.status()) {
            (OperatorError::Unlisted { .. }, Some(404)) => {
                Some("install the custom resources: kubectl apply -k deploy/kubernetes/crds")
            }
            (_, Some(401 | 403)) => {
                Some("the operator's account may not do this: deploy/kubernetes has the roles that it needs")
            }
            _ => None,
        }
    }
}
