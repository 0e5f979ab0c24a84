//! What this host can do, for people and for scripts; and giving back what a killed run left.

mod fix;

use std::fmt::Write as _;

use mirrorball_dedup::ksm::{self, KsmUnavailable};
use mirrorball_monitor::probe::{self, CheckState, HostReport, KvmKind};
use serde_json::{Value, json};

use crate::exit;

pub use fix::{Change, Place};

/// What `doctor` found.
#[derive(Debug)]
pub struct Diagnosis {
    report: HostReport,
    restored: Restored,
}

/// Whether a killed run's KSM settings were there to be restored, and how that went.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Restored {
    NotNeeded,
    Done,
    Failed(String),
}

/// Looks at the host, and restores KSM's settings if a killed run left them changed.
#[must_use]
pub fn examine() -> Diagnosis {
    let restored = match ksm::restore_from_journal() {
        Ok(true) => Restored::Done,
        // A run that is using KSM now will restore its settings itself.
        Ok(false) | Err(KsmUnavailable::InUse(_)) => Restored::NotNeeded,
        Err(error) => Restored::Failed(error.to_string()),
    };
    Diagnosis {
        report: probe::host(),
        restored,
    }
}

impl Diagnosis {
    /// The exit code: whether guests can be run here.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let kvm = matches!(self.report.kvm, KvmKind::Software | KvmKind::Hardware);
        if kvm && !matches!(self.restored, Restored::Failed(_)) {
            exit::OK
        } else {
            exit::HOST
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.report.checks {
            let _ = writeln!(
                text,
                "{:<8} {:<22} {}",
                word(check.state),
                check.id,
                check.finding
            );
            for (label, line) in [("effect", &check.effect), ("remedy", &check.remedy)] {
                if !line.is_empty() {
                    let _ = writeln!(text, "{:31} {label}: {line}", "");
                }
            }
        }
        match &self.restored {
            Restored::NotNeeded if Place::default().is_changed() => text.push_str(
                "settings of this host were changed by --fix and not given back: doctor --restore\n",
            ),
            Restored::NotNeeded => {}
            Restored::Done => {
                text.push_str("restored KSM's settings, which a killed run had left changed\n")
            }
            Restored::Failed(error) => {
                let _ = writeln!(
                    text,
                    "KSM's settings, left changed by a killed run, could not be restored: {error}"
                );
            }
        }
        text
    }

    /// For scripts.
    #[must_use]
    pub fn json(&self) -> Value {
        let checks = self.report.checks.iter().map(|check| {
            json!({
                "id": check.id,
                "state": word(check.state),
                "finding": check.finding,
                "effect": check.effect,
                "remedy": check.remedy,
            })
        });
        json!({
            "schema_version": 1,
            "kvm": kvm_word(self.report.kvm),
            "checks": checks.collect::<Vec<_>>(),
            "ksm_restored": self.restored == Restored::Done,
            "host_changed": Place::default().is_changed(),
        })
    }
}

const fn word(state: CheckState) -> &'static str {
    match state {
        CheckState::Pass => "ok",
        CheckState::Warn => "warning",
        CheckState::Fail => "FAIL",
        CheckState::Unknown => "unknown",
    }
}

/// The kind of KVM in results.
#[must_use]
pub const fn kvm_word(kind: KvmKind) -> &'static str {
    match kind {
        KvmKind::None => "none",
        KvmKind::NoPermission => "no-permission",
        KvmKind::Software => "software",
        KvmKind::Hardware => "hardware",
    }
}
