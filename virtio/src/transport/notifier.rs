//! A device's way back to its transport, for what doesn't begin with the guest.

use super::Transport;
use std::fmt;
use std::sync::{Arc, Weak};

/// Lets a device say that something happened on the host's side.
///
/// It does not keep the transport alive; without one, nothing happens.
#[derive(Clone, Default)]
pub struct Notifier(Weak<Transport>);

impl Notifier {
    pub(super) fn new(transport: &Arc<Transport>) -> Self {
        Self(Arc::downgrade(transport))
    }

    /// Asks for a round of a queue, as the guest's doorbell does. May be called from anywhere.
    pub fn ring(&self, queue: usize) {
        if let Some(transport) = self.0.upgrade() {
            transport.ring(queue);
        }
    }

    /// Tells the guest that a field of the configuration space has changed (virtio 1.2, clause
    /// 4.2.2: ConfigGeneration, and bit 1 of InterruptStatus). Fields are changed one at a time,
    /// before this.
    ///
    /// Not to be called from within the same device's `process` or `reset`: a reset by the guest
    /// waits for the one and holds what this needs.
    pub fn configuration_changed(&self) {
        if let Some(transport) = self.0.upgrade() {
            transport.configuration_changed();
        }
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Notifier")
            .field(&self.0.strong_count())
            .finish()
    }
}
