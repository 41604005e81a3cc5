//! GUIDs: fixed ones for types, derived ones for images, random ones for disks.

use kos_manifest::disk;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// The type of the first partition, which every firmware looks for.
pub const EFI_SYSTEM: Uuid = Uuid::from_bytes_le(disk::BOOT_PARTITION_TYPE.to_disk());
/// The type of a data partition.
pub const KOS_DATA: Uuid = Uuid::from_bytes_le(disk::DATA_PARTITION_TYPE.to_disk());

/// A GUID that equal texts share: an image's disk and partitions have such ones, so that equal
/// images are equal bytes. Each disk gets its own when it is flashed.
pub fn derived(texts: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    for text in texts {
        // With its length, so that "a", "bc" is not "ab", "c".
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// A GUID that no other disk has.
pub fn random() -> Uuid {
    Uuid::new_v4()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_a_guid_and_others_do_not() {
        let guid = derived(&["disk", "rpi4"]);
        assert_eq!(guid, derived(&["disk", "rpi4"]));
        assert_ne!(guid, derived(&["disk", "rpi5"]));
        assert_ne!(guid, derived(&["diskr", "pi4"]));
        assert_eq!(guid.get_version_num(), 8, "\"custom\" in RFC 9562: {guid}");
        assert_ne!(random(), random());
    }
}
