//! The settings of our clusters.

/// The file, in the cluster's folder; `postgresql.conf` includes it.
pub(super) const NAME: &str = "headwater.conf";

/// The text of the file.
pub(super) fn text(port: u16, more: &[String]) -> String {
    let mut text = format!(
        "listen_addresses = '127.0.0.1'
port = {port}
# Its path can be too long for a socket, and nobody needs one.
unix_socket_directories = ''
max_connections = 200
fsync = on
default_toast_compression = 'lz4'
wal_compression = 'lz4'
log_line_prefix = '%m [%p] %q%a '
"
    );
    for line in more {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_comes_last_and_therefore_counts() {
        let text = text(20_123, &["max_connections = 7".to_owned(), "wal_level = 'logical'".to_owned()]);
        assert!(text.contains("\nport = 20123\n"), "{text}");
        assert!(text.contains("\nfsync = on\n"), "{text}");
        assert!(text.ends_with("\nmax_connections = 7\nwal_level = 'logical'\n"), "{text}");
    }
}
