//! The name of a record: which part is the device, which the metric.
//!
//! Owns: where names are cut. Does not know: which ids are allowed (the sink does).

use std::net::Ipv6Addr;

const SEPARATORS: [char; 2] = [':', '/'];

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named<'n> {
    pub(super) device: Option<&'n str>,
    pub(super) metric: Option<&'n str>,
}

/// Takes a base name and a name, each empty where there is none, apart.
pub(super) fn of<'n>(base: &'n str, name: &'n str) -> Named<'n> {
    if base.is_empty() {
        return whole(name);
    }
    let (device, metric) = match base.strip_suffix(SEPARATORS) {
        Some(device) => (device, name),
        None => (base, name.strip_prefix(SEPARATORS).unwrap_or(name)),
    };
    Named { device: Some(device), metric: (!name.is_empty()).then_some(metric) }
}

fn whole(name: &str) -> Named<'_> {
    if name.is_empty() {
        return Named { device: None, metric: None };
    }
    if is_device(name) {
        return Named { device: Some(name), metric: None };
    }
    match name.rsplit_once(SEPARATORS) {
        Some((device, metric)) => Named { device: Some(device), metric: Some(metric) },
        None => Named { device: None, metric: Some(name) },
    }
}

/// Whether a name ends where the id of a thing does: a URN (`urn:<kind>:<id>`, `urn:dev:<kind>:<id>`, RFC 9039), or an IPv6
/// address, as RFC 8428 names lamps.
fn is_device(name: &str) -> bool {
    let mut parts = name.split(':');
    if !parts.next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("urn")) {
        return name.parse::<Ipv6Addr>().is_ok();
    }
    let of_id = if parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("dev")) { 2 } else { 1 };
    parts.count() == of_id && !name.contains('/')
}
