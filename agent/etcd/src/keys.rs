//! Which keys a request is about.

/// One key, or all keys that start alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Exactly this key.
    One(Vec<u8>),
    /// Every key that starts with this; all keys if it is empty.
    Prefix(Vec<u8>),
}

impl Keys {
    /// Exactly this key.
    pub fn one(key: impl Into<Vec<u8>>) -> Keys {
        Keys::One(key.into())
    }

    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Keys {
        Keys::Prefix(prefix.into())
    }

    /// etcd's `key` and `range_end`.
    pub(crate) fn into_range(self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Keys::One(key) => (key, Vec::new()),
            Keys::Prefix(prefix) if prefix.is_empty() => (vec![0], vec![0]),
            Keys::Prefix(prefix) => {
                let end = end_of(&prefix);
                (prefix, end)
            }
        }
    }
}

impl<K: Into<Vec<u8>>> From<K> for Keys {
    fn from(key: K) -> Keys {
        Keys::One(key.into())
    }
}

/// The first key after all that start with `prefix`; `\0` if there is none, which etcd takes for "no end".
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_key_of_its_length() {
        assert_eq!(end_of(b"/a/"), b"/a0");
        assert_eq!(end_of(b"a\xff"), b"b");
        assert_eq!(end_of(b"\xff\xff"), b"\0");
        assert_eq!(Keys::prefix("").into_range(), (vec![0], vec![0]));
        assert_eq!(Keys::one("k").into_range(), (b"k".to_vec(), vec![]));
    }
}
