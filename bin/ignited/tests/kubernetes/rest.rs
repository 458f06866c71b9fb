//! Kubernetes' API as it is on the wire: paths and JSON.

use http::{Method, Request};
use ignite_api::error_chain::chain_of;
use kube::Client;
use serde_json::Value;

/// The custom resources' group and version.
pub const API: &str = "apis/ignite.weave.works/v1alpha4";

/// Who asks.
#[derive(Clone)]
pub struct Rest {
    client: Client,
}

/// What a server says instead of what was asked for.
#[derive(Debug, Clone)]
pub struct Refused {
    /// HTTP's status.
    pub code: u16,
    /// Its words.
    pub message: String,
}

/// An answer, or why there is none.
pub type Answer = Result<Value, Refused>;

impl Rest {
    /// By this client.
    pub fn new(client: Client) -> Rest {
        Rest { client }
    }

    /// An object or a list.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "application/json", None).await
    }

    /// A list as `kubectl get` shows it.
    pub async fn table(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "application/json;as=Table;v=v1;g=meta.k8s.io", None).await
    }

    /// Makes an object in the collection.
    pub async fn create(&self, path: &str, object: &Value) -> Answer {
        self.ask(Method::POST, path, "application/json", Some(("application/json", object))).await
    }

    /// Merges into an object.
    pub async fn merge(&self, path: &str, patch: &Value) -> Answer {
        self.ask(Method::PATCH, path, "application/json", Some(("application/merge-patch+json", patch))).await
    }

    /// Deletes an object, with the grace it asks for.
    pub async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, "application/json", None).await
    }

    async fn ask(&self, method: Method, path: &str, accept: &str, body: Option<(&str, &Value)>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/{path}")).header("accept", accept);
        let mut bytes = Vec::new();
        if let Some((content_type, value)) = body {
            request = request.header("content-type", content_type);
            bytes = value.to_string().into_bytes();
        }
        let request = request.body(bytes).expect("a request");
        self.client.request::<Value>(request).await.map_err(|error| match error {
            kube::Error::Api(status) => Refused { code: status.code, message: status.message.clone() },
            other => Refused { code: 0, message: chain_of(&other) },
        })
    }
}
