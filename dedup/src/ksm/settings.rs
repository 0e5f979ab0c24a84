//! What ksmd is told (Documentation/admin-guide/mm/ksm.rst, section 3).

/// Settings of a KSM run. `None` leaves what the host has; a setting that
/// this kernel does not know is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KsmSettings {
    /// Pages looked at before ksmd sleeps.
    pub pages_to_scan: u32,
    /// Milliseconds that ksmd sleeps then; 0 for full speed.
    pub sleep_millisecs: u32,
    /// Skip pages that were found unshareable before (Linux 6.7).
    pub smart_scan: Option<bool>,
    /// Merge zero pages with the kernel's zero page.
    pub use_zero_pages: Option<bool>,
    /// Most references to one merged page.
    pub max_page_sharing: Option<u32>,
    /// Merge pages of different NUMA nodes.
    pub merge_across_nodes: Option<bool>,
    /// Who sets `pages_to_scan`: `none` or `scan-time` (Linux 6.8).
    pub advisor_mode: Option<String>,
}

impl Default for KsmSettings {
    /// A brisk KSM with the kernel's own defaults in everything else, but
    /// zero pages merged, as our scanners do, and no advisor, which would
    /// change the rate.
    fn default() -> Self {
        Self {
            pages_to_scan: 4000,
            sleep_millisecs: 20,
            smart_scan: None,
            use_zero_pages: Some(true),
            max_page_sharing: None,
            merge_across_nodes: None,
            advisor_mode: Some("none".into()),
        }
    }
}

/// The files of a KSM directory that a run may change, in the order in which
/// they are written. The advisor is first: it guards `pages_to_scan`.
pub(super) const TUNABLES: [&str; 7] = [
    "advisor_mode",
    "pages_to_scan",
    "sleep_millisecs",
    "smart_scan",
    "use_zero_pages",
    "max_page_sharing",
    "merge_across_nodes",
];

impl KsmSettings {
    /// The value for one of [`TUNABLES`], if it is to be set.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let switch = |on: Option<bool>| on.map(|on| u8::from(on).to_string());
        match name {
            "advisor_mode" => self.advisor_mode.clone(),
            "pages_to_scan" => Some(self.pages_to_scan.to_string()),
            "sleep_millisecs" => Some(self.sleep_millisecs.to_string()),
            "smart_scan" => switch(self.smart_scan),
            "use_zero_pages" => switch(self.use_zero_pages),
            "max_page_sharing" => self.max_page_sharing.map(|most| most.to_string()),
            "merge_across_nodes" => switch(self.merge_across_nodes),
            _ => None,
        }
    }
}
