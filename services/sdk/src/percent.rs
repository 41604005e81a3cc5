//! Percent-encoding of what may not stand in a path's part or a query's value (RFC 3986).

/// `text` with every byte that is not unreserved as `%XX`.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_unreserved_is_escaped() {
        assert_eq!(escape("door-cam_2.~"), "door-cam_2.~");
        assert_eq!(escape("a b/c?d=é"), "a%20b%2Fc%3Fd%3D%C3%A9");
    }
}
