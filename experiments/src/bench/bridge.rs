//! A bridge of the host's between TAP devices, by `ip` of iproute2.

use std::process::Command;

use super::BenchError;

/// Names for two TAP devices of this process.
pub fn tap_names() -> [String; 2] {
    [0, 1].map(|number| format!("mb{}-{number}", std::process::id() % 100_000))
}

/// A bridge; gone when dropped, with the TAP devices that it made.
#[derive(Debug)]
pub struct Bridge {
    name: String,
    made: Vec<String>,
}

impl Bridge {
    /// A bridge between TAP devices that are there, with their MTU and its own set to `mtu` bytes.
    pub fn between(taps: &[String], mtu: &str) -> Result<Self, BenchError> {
        let bridge = Self::new()?;
        for tap in taps {
            ip(&["link", "set", tap, "mtu", mtu])?;
            bridge.add(tap)?;
        }
        ip(&["link", "set", &bridge.name, "mtu", mtu])?;
        Ok(bridge)
    }

    /// A bridge between new TAP devices.
    pub fn with_taps(names: &[String]) -> Result<Self, BenchError> {
        let mut bridge = Self::new()?;
        for tap in names {
            ip(&["tuntap", "add", "dev", tap, "mode", "tap", "vnet_hdr"])?;
            bridge.made.push(tap.clone());
            bridge.add(tap)?;
        }
        Ok(bridge)
    }

    fn new() -> Result<Self, BenchError> {
        let name = format!("mbr{}", std::process::id() % 100_000);
        ip(&["link", "add", &name, "type", "bridge"])?;
        let bridge = Self {
            name,
            made: Vec::new(),
        };
        ip(&["link", "set", &bridge.name, "up"])?;
        Ok(bridge)
    }

    fn add(&self, tap: &str) -> Result<(), BenchError> {
        ip(&["link", "set", tap, "master", &self.name, "up"])
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        for name in self.made.iter().chain([&self.name]) {
            let _ = ip(&["link", "delete", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), BenchError> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(BenchError::of("`ip` of iproute2 can't be run"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(BenchError(format!(
        "ip {}: {}",
        arguments.join(" "),
        said.trim()
    )))
}
