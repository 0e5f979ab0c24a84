//! Examples in the help of each command. A test reads every one of them as a command line.

pub(crate) const ALL: &str = "Examples:
  mirrorball doctor                            what this host can do
  mirrorball list                              the experiments that come with it
  mirrorball run experiments/quick.yaml        run one
  mirrorball report results/runs/quick-DATE    one HTML file of its results";

pub(crate) const RUN: &str = "Examples:
  mirrorball run experiments/quick.yaml
  mirrorball run experiments/quick.yaml --only none --only all --runs 5
  mirrorball run experiments/quick.yaml --set machine.memory=2GiB --seed 7
  mirrorball run --resume results/runs/quick-DATE
  mirrorball run experiments/quick.yaml --compare results/reference/quick --fail-on-regression 5
  mirrorball run experiments/linux/boot.yaml --host emulated
  mirrorball run experiments/esx --smoke";

pub(crate) const PLAN: &str = "Examples:
  mirrorball plan experiments/quick.yaml
  mirrorball plan experiments/quick.yaml --max-time 10min --max-memory 2GiB --json";

pub(crate) const INIT: &str = "Examples:
  mirrorball list templates
  mirrorball init sweep";

pub(crate) const SHOW: &str = "Examples:
  mirrorball show --resolved experiments/quick.yaml --set scanner.interval=2s";

pub(crate) const LOGS: &str = "Examples:
  mirrorball logs results/runs/quick-DATE
  mirrorball logs results/runs/quick-DATE all:2";

pub(crate) const SAMPLES: &str = "Examples:
  mirrorball samples results/runs/quick-DATE --cell all --run 1 --vm machine";

pub(crate) const LIST: &str = "Examples:
  mirrorball list
  mirrorball list metrics --json
  mirrorball list papers";

pub(crate) const VALIDATE: &str = "Examples:
  mirrorball validate experiments/quick.yaml experiments/torture.yaml";

pub(crate) const BENCH: &str = "Examples:
  mirrorball bench --only break --runs 10
  mirrorball bench --only clean-pass --json -o clean-pass.json";

pub(crate) const REPORT: &str = "Examples:
  mirrorball report results/runs/quick-DATE
  mirrorball report results/runs/quick-DATE results/runs/scale-DATE -o both
  mirrorball report results/reference/quick -o /tmp/quick --anonymous";

pub(crate) const CHECK: &str = "Examples:
  mirrorball check results/runs/quick-DATE
  mirrorball check results/runs/quick-DATE --file stricter.yaml";

pub(crate) const COMPARE: &str = "Examples:
  mirrorball compare results/runs/quick-DATE:none results/runs/quick-DATE:all
  mirrorball compare results/reference/quick results/runs/quick-DATE --allow provenance.host
  mirrorball compare BEFORE AFTER --fail-on-regression 5 --strict";

pub(crate) const PACKAGE: &str = "Examples:
  mirrorball package results/runs/quick-DATE
  mirrorball package results/runs/quick-DATE --anonymous -o submission.tar.gz";

pub(crate) const VERIFY: &str = "Examples:
  mirrorball verify quick-DATE.tar.gz
  mirrorball verify --rerun quick-DATE.tar.gz";

pub(crate) const DOCTOR: &str = "Examples:
  mirrorball doctor
  mirrorball doctor --fix -- mirrorball run experiments/quick.yaml
  mirrorball doctor --restore";

pub(crate) const WATCH: &str = "Examples:
  mirrorball watch
  mirrorball watch 4711 --json";

pub(crate) const IMAGE: &str = "Examples:
  mirrorball image list
  mirrorball image linux --kernel 6.12";

pub(crate) const COMPLETIONS: &str = "Examples:
  mirrorball completions bash
  mirrorball completions zsh";
