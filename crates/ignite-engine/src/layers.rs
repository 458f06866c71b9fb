//! Joins the two mechanisms that must not know each other: layers of the content store, read by the disk writer.

use crate::interrupted::Imports;
use ignite_disk::LayerSource;
use ignite_oci::{ContentStore, Layer, StoredImage};
use std::io::{self, Read};

/// A stored layer as the disk writer wants it.
pub(crate) struct StoredLayer<'a> {
    store: &'a ContentStore,
    layer: &'a Layer,
    imports: &'a Imports,
}

impl LayerSource for StoredLayer<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let stream = self.store.open_layer(self.layer).map_err(io::Error::other)?;
        Ok(self.imports.watch(Box::new(stream)))
    }

    fn name(&self) -> String {
        self.layer.digest.clone()
    }
}

/// The layers of an image, lowest first; reading them ends when the import is cancelled.
pub(crate) fn layers_of<'a>(
    store: &'a ContentStore,
    image: &'a StoredImage,
    imports: &'a Imports,
) -> Vec<StoredLayer<'a>> {
    image.layers.iter().map(|layer| StoredLayer { store, layer, imports }).collect()
}

/// The same, as the disk writer takes them.
pub(crate) fn as_sources<'a>(layers: &'a [StoredLayer<'a>]) -> Vec<&'a dyn LayerSource> {
    layers.iter().map(|layer| layer as &dyn LayerSource).collect()
}
