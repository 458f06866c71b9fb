//! The messages of containerd's API that are used here, with the field numbers of its `.proto` files
//! (containerd 1.6 and later, `api/services/*/v1`). Unknown fields are skipped, as protobuf has it.

use prost::Message;
use std::collections::HashMap;

/// `containerd.types.Descriptor`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Descriptor {
    #[prost(string, tag = "1")]
    pub media_type: String,
    #[prost(string, tag = "2")]
    pub digest: String,
    #[prost(int64, tag = "3")]
    pub size: i64,
}

/// `google.protobuf.Empty`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Empty {}

/// `google.protobuf.FieldMask`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    pub paths: Vec<String>,
}

/// `containerd.services.images.v1.Image`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(map = "string, string", tag = "2")]
    pub labels: HashMap<String, String>,
    #[prost(message, optional, tag = "3")]
    pub target: Option<Descriptor>,
}

/// `GetImageRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetImageRequest {
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `GetImageResponse`, `CreateImageResponse` and `UpdateImageResponse`; the first two requests to change one look alike.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ImageMessage {
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
}

/// `UpdateImageRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct UpdateImageRequest {
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
    #[prost(message, optional, tag = "2")]
    pub update_mask: Option<FieldMask>,
}

/// `containerd.services.content.v1.Info`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    pub digest: String,
    #[prost(int64, tag = "2")]
    pub size: i64,
}

/// `InfoRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct InfoRequest {
    #[prost(string, tag = "1")]
    pub digest: String,
}

/// `InfoResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    pub info: Option<Info>,
}

/// `ReadContentRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContentRequest {
    #[prost(string, tag = "1")]
    pub digest: String,
    #[prost(int64, tag = "2")]
    pub offset: i64,
    #[prost(int64, tag = "3")]
    pub size: i64,
}

/// `ReadContentResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContentResponse {
    #[prost(int64, tag = "1")]
    pub offset: i64,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: bytes::Bytes,
}

/// `WriteAction`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub(super) enum WriteAction {
    Stat = 0,
    Write = 1,
    Commit = 2,
}

/// `WriteContentRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteContentRequest {
    #[prost(enumeration = "WriteAction", tag = "1")]
    pub action: i32,
    #[prost(string, tag = "2")]
    pub r#ref: String,
    #[prost(int64, tag = "3")]
    pub total: i64,
    #[prost(string, tag = "4")]
    pub expected: String,
    #[prost(int64, tag = "5")]
    pub offset: i64,
    #[prost(bytes = "bytes", tag = "6")]
    pub data: bytes::Bytes,
    #[prost(map = "string, string", tag = "7")]
    pub labels: HashMap<String, String>,
}

/// `WriteContentResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteContentResponse {
    #[prost(enumeration = "WriteAction", tag = "1")]
    pub action: i32,
    #[prost(int64, tag = "4")]
    pub offset: i64,
}

/// `containerd.services.leases.v1.CreateRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateLeaseRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(map = "string, string", tag = "3")]
    pub labels: HashMap<String, String>,
}

/// `CreateResponse` of leases; nothing of it is needed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateLeaseResponse {}

/// `containerd.services.leases.v1.DeleteRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteLeaseRequest {
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `containerd.services.leases.v1.Resource`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LeasedResource {
    #[prost(string, tag = "1")]
    pub id: String,
    /// `content`.
    #[prost(string, tag = "2")]
    pub r#type: String,
}

/// `AddResourceRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AddResourceRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub resource: Option<LeasedResource>,
}

/// `PluginsRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PluginsRequest {
    #[prost(string, repeated, tag = "1")]
    pub filters: Vec<String>,
}

/// `containerd.services.introspection.v1.Plugin`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Plugin {
    #[prost(map = "string, string", tag = "5")]
    pub exports: HashMap<String, String>,
}

/// `PluginsResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PluginsResponse {
    #[prost(message, repeated, tag = "1")]
    pub plugins: Vec<Plugin>,
}
