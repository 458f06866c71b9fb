//! One namespace of a containerd: its images, its content, and a lease that keeps both while we are at it.

use super::grpc::{ALREADY_EXISTS, Answers, Channel, GrpcError, NOT_FOUND};
use super::messages::{
    AddResourceRequest, CreateLeaseRequest, CreateLeaseResponse, DeleteLeaseRequest, Descriptor, Empty, FieldMask,
    GetImageRequest, Image, ImageMessage, InfoRequest, InfoResponse, LeasedResource, PluginsRequest, PluginsResponse,
    ReadContentRequest, ReadContentResponse, UpdateImageRequest, WriteAction, WriteContentRequest,
    WriteContentResponse,
};
use crate::OciError;
use crate::digest::Digest;
use crate::options::ContainerdOptions;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So much of a blob goes in one message.
const WRITE_BYTES: usize = 1 << 20;
/// A lease that nobody gives back ends by itself.
const LEASE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What an image's name means: a manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
}

/// A connection to one namespace, under a lease of our own.
pub(crate) struct Containerd {
    channel: Channel,
    address: PathBuf,
    lease: String,
}

impl Containerd {
    /// Connects and takes a lease.
    pub(crate) async fn connect(address: &ContainerdOptions, deadline: Duration) -> Result<Containerd, OciError> {
        let path = address.socket.clone();
        let connected = tokio::time::timeout(deadline, Channel::connect(&path, deadline)).await;
        let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let channel = connected.map_err(|source| OciError::EngineUnreachable {
            engine: "containerd",
            socket: path.clone(),
            source,
        })?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| OciError::WorkerLost)?;
        let mut client = Containerd { channel, address: path, lease: format!("ignite-{}", hex::encode(random)) };
        let namespace = client.channel.set_metadata("containerd-namespace", &address.namespace);
        namespace.map_err(client.failed("choose its namespace"))?;
        client.take_lease().await?;
        Ok(client)
    }

    async fn take_lease(&mut self) -> Result<(), OciError> {
        let end = jiff::Timestamp::now() + LEASE_LIFE;
        let labels = HashMap::from([("containerd.io/gc.expire".to_owned(), format!("{end:.0}"))]);
        let request = CreateLeaseRequest { id: self.lease.clone(), labels };
        let created: Result<CreateLeaseResponse, _> =
            self.channel.call("containerd.services.leases.v1.Leases/Create", &request).await;
        created.map_err(self.failed("take a lease"))?;
        // Whatever is written from now on belongs to the lease, too.
        let lease = self.lease.clone();
        let named = self.channel.set_metadata("containerd-lease", &lease);
        named.map_err(self.failed("take a lease"))
    }

    /// Gives the lease back. One that is not ends by itself a day later.
    pub(crate) async fn release(self) {
        let request = DeleteLeaseRequest { id: self.lease.clone() };
        let deleted: Result<Empty, _> =
            self.channel.call("containerd.services.leases.v1.Leases/Delete", &request).await;
        if let Err(error) = deleted {
            tracing::warn!(lease = %self.lease, %error, "could not give containerd's lease back");
        }
    }

    /// What `name` (`docker.io/library/redis:latest`) means.
    pub(crate) async fn image(&self, name: &str) -> Result<Option<Target>, OciError> {
        let request = GetImageRequest { name: name.to_owned() };
        match self.channel.call::<_, ImageMessage>("containerd.services.images.v1.Images/Get", &request).await {
            Err(GrpcError::Status { code: NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(self.failed(&format!("look up {name}"))(error)),
            Ok(answer) => Ok(answer.image.and_then(|image| image.target).map(|target| Target {
                media_type: target.media_type,
                digest: target.digest,
                size: target.size.max(0) as u64,
            })),
        }
    }

    /// Makes `name` mean `target`.
    pub(crate) async fn set_image(&self, name: &str, target: &Target) -> Result<(), OciError> {
        let target = Descriptor {
            media_type: target.media_type.clone(),
            digest: target.digest.clone(),
            size: target.size as i64,
        };
        let image = Some(Image { name: name.to_owned(), labels: HashMap::new(), target: Some(target) });
        let request = ImageMessage { image: image.clone() };
        let created =
            self.channel.call::<_, ImageMessage>("containerd.services.images.v1.Images/Create", &request).await;
        let done = match created {
            Err(GrpcError::Status { code: ALREADY_EXISTS, .. }) => {
                let update_mask = Some(FieldMask { paths: vec!["target".to_owned()] });
                let request = UpdateImageRequest { image, update_mask };
                self.channel.call("containerd.services.images.v1.Images/Update", &request).await
            }
            other => other,
        };
        done.map(|_| ()).map_err(self.failed(&format!("name {name}")))
    }

    /// Size of a blob that it has, which our lease keeps from now on.
    pub(crate) async fn hold(&self, digest: &Digest) -> Result<Option<u64>, OciError> {
        let resource = Some(LeasedResource { id: digest.to_string(), r#type: "content".to_owned() });
        let request = AddResourceRequest { id: self.lease.clone(), resource };
        let held: Result<Empty, _> =
            self.channel.call("containerd.services.leases.v1.Leases/AddResource", &request).await;
        held.map_err(self.failed("extend a lease"))?;
        let request = InfoRequest { digest: digest.to_string() };
        match self.channel.call::<_, InfoResponse>("containerd.services.content.v1.Content/Info", &request).await {
            Err(GrpcError::Status { code: NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(self.failed(&format!("look at {digest}"))(error)),
            Ok(answer) => Ok(answer.info.map(|info| info.size.max(0) as u64)),
        }
    }

    /// A blob's bytes from `offset` on.
    pub(crate) async fn read(&self, digest: &Digest, offset: u64) -> Result<BlobStream, OciError> {
        let request = ReadContentRequest { digest: digest.to_string(), offset: offset as i64, size: 0 };
        let opened = self.channel.call_stream("containerd.services.content.v1.Content/Read", &request).await;
        let answers = opened.map_err(self.failed(&format!("read {digest}")))?;
        Ok(BlobStream { answers, address: self.address.clone(), digest: digest.to_string() })
    }

    /// Stores the `size` bytes of `content` as `digest`, with labels that tell its garbage collector what they refer to.
    pub(crate) async fn write(
        &self,
        digest: &Digest,
        size: u64,
        mut content: std::fs::File,
        labels: HashMap<String, String>,
    ) -> Result<(), OciError> {
        let what = format!("write {digest}");
        match self.write_blob(digest, size, &mut content, labels).await {
            Ok(()) | Err(WriteError::Grpc(GrpcError::Status { code: ALREADY_EXISTS, .. })) => Ok(()),
            Err(WriteError::Grpc(error)) => Err(self.failed(&what)(error)),
            Err(WriteError::Read(source)) => {
                Err(OciError::Store { action: "read", path: digest.to_string().into(), source })
            }
        }
    }

    async fn write_blob(
        &self,
        digest: &Digest,
        size: u64,
        content: &mut std::fs::File,
        labels: HashMap<String, String>,
    ) -> Result<(), WriteError> {
        use std::io::Seek;
        let (mut requests, mut answers) =
            self.channel.open::<WriteContentResponse>("containerd.services.content.v1.Content/Write").await?;
        let request = |action: WriteAction| WriteContentRequest {
            action: action.into(),
            r#ref: format!("{}-{digest}", self.lease),
            total: size as i64,
            expected: digest.to_string(),
            ..WriteContentRequest::default()
        };
        let ended = || GrpcError::Malformed("the write ended early".to_owned());
        // A blob that another namespace has is complete at once.
        requests.send(&request(WriteAction::Stat)).await?;
        let mut offset = answers.next().await?.ok_or_else(ended)?.offset.max(0) as u64;
        content.seek(std::io::SeekFrom::Start(offset)).map_err(WriteError::Read)?;
        while offset < size {
            let mut piece = vec![0; WRITE_BYTES.min((size - offset) as usize)];
            content.read_exact(&mut piece).map_err(WriteError::Read)?;
            let data = bytes::Bytes::from(piece);
            let sent = data.len() as u64;
            requests.send(&WriteContentRequest { offset: offset as i64, data, ..request(WriteAction::Write) }).await?;
            offset += sent;
            answers.next().await?.ok_or_else(ended)?;
        }
        let commit = WriteContentRequest { offset: offset as i64, labels, ..request(WriteAction::Commit) };
        requests.send(&commit).await?;
        answers.next().await?.ok_or_else(ended)?;
        // A server that ended the call at the commit needs no end of ours.
        let _ = requests.finish();
        Ok(())
    }

    /// Directory of its content store, as it names it itself; it need not be on this machine's side of the socket.
    pub(crate) async fn content_root(&self) -> Option<PathBuf> {
        let request = PluginsRequest { filters: vec!["type==io.containerd.content.v1".to_owned()] };
        let method = "containerd.services.introspection.v1.Introspection/Plugins";
        let answer = self.channel.call::<_, PluginsResponse>(method, &request).await.ok()?;
        answer.plugins.into_iter().find_map(|mut plugin| plugin.exports.remove("root")).map(PathBuf::from)
    }

    fn failed(&self, what: &str) -> impl FnOnce(GrpcError) -> OciError + use<> {
        failed(&self.address, what)
    }
}

fn failed(address: &Path, what: &str) -> impl FnOnce(GrpcError) -> OciError + use<> {
    let (socket, what) = (address.to_owned(), what.to_owned());
    move |error| OciError::EngineRefused { engine: "containerd", socket, what, message: error.to_string() }
}

enum WriteError {
    Grpc(GrpcError),
    Read(std::io::Error),
}

impl From<GrpcError> for WriteError {
    fn from(error: GrpcError) -> WriteError {
        WriteError::Grpc(error)
    }
}

/// A blob on its way.
pub(crate) struct BlobStream {
    answers: Answers<ReadContentResponse>,
    address: PathBuf,
    digest: String,
}

impl BlobStream {
    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<bytes::Bytes>, OciError> {
        let what = format!("read {}", self.digest);
        Ok(self.answers.next().await.map_err(failed(&self.address, &what))?.map(|answer| answer.data))
    }
}
