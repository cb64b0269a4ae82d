//! Accepting connections, within limits.
//!
//! Owns: the cap on all connections and on those of one address, and surviving what accepting can fail with. Does not know:
//! what is spoken on a connection.
//! Invariants: a place is taken before a connection is accepted, so what is beyond the cap waits in the kernel's queue and costs
//! nothing here; no failure to accept ends the loop.

use crate::config::Config;
use crate::metrics::{Connections, Counted};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// How long to wait when accepting fails for want of something (file descriptors, memory): others have to give it back first.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the same trouble is logged.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// A listener within limits.
pub(crate) struct Listener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    addresses: Addresses,
    connections: Connections,
    said: Option<Instant>,
}

/// A place among the connections; dropping it gives it back.
pub(crate) struct Place {
    _place: OwnedSemaphorePermit,
    _address: Ticket,
    _counted: Counted,
}

impl Listener {
    pub(crate) fn new(listener: TcpListener, connections: Connections, config: &Config) -> Self {
        // Behind a proxy every connection is of one address.
        let each = if config.behind_proxy { config.max_connections } else { config.max_connections_per_address };
        let places = Arc::new(Semaphore::new(config.max_connections));
        Self { listener, places, addresses: Addresses { most: each, held: Arc::default() }, connections, said: None }
    }

    /// The next connection.
    pub(crate) async fn next(&mut self) -> (TcpStream, Place) {
        loop {
            let place = self.place().await;
            match self.listener.accept().await {
                Ok((stream, peer)) => match self.addresses.enter(peer.ip()) {
                    Some(address) => return (stream, Place { _place: place, _address: address, _counted: self.connections.accepted() }),
                    None => {
                        self.connections.refused();
                        self.say(|| tracing::warn!(peer = %peer.ip(), "closed a connection: too many from its address"));
                    }
                },
                Err(error) if of_one_connection(&error) => {}
                Err(error) => {
                    self.say(|| tracing::warn!(%error, "could not accept a connection; trying on"));
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// The next of those that wait to be accepted, if there is one and a place for it.
    pub(crate) async fn waiting(&mut self) -> Option<(TcpStream, Place)> {
        loop {
            let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
            let accepted = std::future::poll_fn(|context| match self.listener.poll_accept(context) {
                Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
                Poll::Pending => Poll::Ready(None),
            });
            let (stream, peer) = accepted.await?;
            if let Some(address) = self.addresses.enter(peer.ip()) {
                return Some((stream, Place { _place: place, _address: address, _counted: self.connections.accepted() }));
            }
            self.connections.refused();
        }
    }

    async fn place(&mut self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return place;
            }
            self.say(|| tracing::warn!("all connections are taken; new ones wait"));
            // Nobody closes the semaphore.
            if let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
                return place;
            }
        }
    }

    /// Says something at most once in a while: whoever floods the listener shall not flood the log.
    fn say(&mut self, line: impl FnOnce()) {
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            self.said = Some(Instant::now());
            line();
        }
    }
}

/// Whether a failure is of the connection that was to be accepted, and not of the listener.
fn of_one_connection(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | WouldBlock)
}

/// How many connections each address has.
struct Addresses {
    most: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection of an address.
struct Ticket {
    address: IpAddr,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Addresses {
    fn enter(&self, address: IpAddr) -> Option<Ticket> {
        let address = neighbourhood(address);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_insert(0);
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Ticket { address, held: Arc::clone(&self.held) })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

/// The address that is counted: of IPv6 the /64, which is what one machine usually has to choose from.
pub(crate) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_and_gets_it_back() {
        let addresses = Addresses { most: 2, held: Arc::default() };
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let held = (addresses.enter(one).unwrap(), addresses.enter(one).unwrap());
        assert!(addresses.enter(one).is_none() && addresses.enter(other).is_some());
        drop(held);
        assert!(addresses.held.lock().unwrap().is_empty());
        assert!(addresses.enter(one).is_some());
    }

    #[test]
    fn ipv6_is_counted_by_network_and_mapped_addresses_as_what_they_are() {
        let of = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
