//! Draws the board.

use mirrorball_report::samples::Sample;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Block, Cell, Gauge, Paragraph, Row as TableRow, Sparkline, Table, TableState,
};

use super::board::{Board, Column, Row, count};
use super::keys::HELP;
use crate::{Snapshot, Switch};

/// Width of a bar of memory, in cells, at most.
const WIDEST_BAR: u16 = 60;

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, board: &Board) {
    let [head, machine, table, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(8),
        Constraint::Min(3),
        Constraint::Length(2),
    ])
    .areas(frame.area());
    let Some(now) = &board.now else {
        frame.render_widget(Paragraph::new("waiting for the first guests"), head);
        return;
    };
    draw_head(frame, head, board, now);
    draw_machine(frame, machine, board, now);
    draw_table(frame, table, board);
    draw_foot(frame, foot, board);
}

/// A style, or none where colours are not wanted.
fn coloured(board: &Board, colour: Color) -> Style {
    if board.colour {
        Style::new().fg(colour)
    } else {
        Style::new()
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, board: &Board, now: &Snapshot) {
    let [text, gauge] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    let machine = &now.machine;
    let line = format!(
        "{}   {} run {}: {}   {}/{} guests   {}",
        now.experiment,
        machine.cell,
        machine.run,
        machine.phase,
        machine.guests_up.unwrap_or(0),
        now.guests,
        clock(machine.time_seconds)
    );
    frame.render_widget(Paragraph::new(line).style(Modifier::BOLD), text);
    #[allow(clippy::cast_precision_loss, reason = "a fraction for a bar")]
    let done = now.runs_done as f64 / now.runs.max(1) as f64;
    let gauge_style = coloured(board, Color::Blue);
    let label = format!("{} of {} runs", now.runs_done, now.runs);
    let bar = Gauge::default().ratio(done.clamp(0.0, 1.0)).label(label);
    frame.render_widget(bar.gauge_style(gauge_style), gauge);
}

fn draw_machine(frame: &mut Frame<'_>, area: Rect, board: &Board, now: &Snapshot) {
    let [memory, work] =
        Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)]).areas(area);
    let block = Block::bordered().title(" memory ");
    let inside = block.inner(memory);
    frame.render_widget(block, memory);
    let [bars, curve] = Layout::vertical([Constraint::Length(5), Constraint::Min(1)]).areas(inside);
    frame.render_widget(Paragraph::new(memory_lines(board, now, inside.width)), bars);
    let history: Vec<u64> = board.history.iter().copied().collect();
    let shown = history.len().saturating_sub(usize::from(curve.width));
    let line = Sparkline::default().data(&history[shown..]);
    frame.render_widget(line.style(coloured(board, Color::Green)), curve);

    let block = Block::bordered().title(" sharing ");
    let inside = block.inner(work);
    frame.render_widget(block, work);
    frame.render_widget(Paragraph::new(work_lines(board, now)), inside);
}

/// Bars on one scale: the guests' size, what they touched, what the machine uses, what is saved.
fn memory_lines(board: &Board, now: &Snapshot, width: u16) -> Vec<Line<'static>> {
    let machine = &now.machine;
    let room = width.saturating_sub(27).min(WIDEST_BAR);
    let bar = |name: &str, bytes: u64, colour: Color| {
        let filled = part(bytes, machine.guest_physical_bytes, room);
        Line::from(vec![
            Span::raw(format!("{name:<15}{:>10} ", size(bytes))),
            Span::styled("\u{2588}".repeat(filled), coloured(board, colour)),
        ])
    };
    vec![
        bar(
            "guest-physical",
            machine.guest_physical_bytes,
            Color::DarkGray,
        ),
        bar("touched", machine.touched_bytes, Color::Yellow),
        bar("used", now.used_bytes, Color::Green),
        bar(
            "reclaimed",
            machine.reclaimed_bytes.unwrap_or(0),
            Color::Blue,
        ),
        Line::raw(format!(
            "{:<15}{:>10}, if all sharing broke {}",
            "budget",
            size(now.budget_bytes),
            size(machine.if_all_broke_bytes.unwrap_or(0))
        )),
    ]
}

fn work_lines(board: &Board, now: &Snapshot) -> Vec<Line<'static>> {
    let machine = &now.machine;
    let mut lines = vec![
        saved(board, now, Switch::Disk, machine.disk_bytes),
        saved(board, now, Switch::Zero, Some(machine.zero_bytes)),
        saved(board, now, Switch::Content, machine.content_bytes),
    ];
    if let Some(ksm) = machine.ksm_bytes {
        lines.push(Line::raw(format!("{:<8} {:>10}", "KSM", size(ksm))));
    }
    let rate = |figure: fn(&Sample) -> Option<f64>, unit: &str, times: f64| {
        board
            .machine_rate(figure)
            .map_or("-".to_owned(), |rate| format!("{:.0}{unit}", rate * times))
    };
    let scanner = |s: &Sample| s.scanner_seconds.or(s.ksmd_seconds);
    let hashed = |s: &Sample| s.hashed_pages.and_then(count);
    lines.push(Line::raw(format!(
        "scanner  pass {}, {}, {} of a core",
        now.scans.map_or("-".to_owned(), |scans| scans.to_string()),
        rate(hashed, " pages/s", 1.0),
        rate(scanner, " %", 100.0),
    )));
    let held = now
        .hold_p99_seconds
        .map_or("-".to_owned(), |held| format!("{:.0} us", held * 1e6));
    let breaks = rate(|s| count(s.broken_pages), "/s", 1.0);
    lines.push(Line::raw(format!(
        "breaks   {breaks}; writers held, p99 {held}"
    )));
    lines
}

/// What a mechanism saves, and whether it is on.
fn saved(board: &Board, now: &Snapshot, switch: Switch, bytes: Option<u64>) -> Line<'static> {
    let (word, style) = match now.switches.get(switch) {
        Some(true) => ("on", coloured(board, Color::Green)),
        Some(false) => ("off", coloured(board, Color::Red)),
        None => ("", Style::new()),
    };
    Line::from(vec![
        Span::raw(format!(
            "{:<8} {:>10}  ",
            switch.name(),
            size(bytes.unwrap_or(0))
        )),
        Span::styled(word, style),
    ])
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let rows = board.rows();
    let mut state = TableState::default().with_selected(board.selected(&rows));
    let header = Column::ALL.map(|column| {
        let mark = match (board.sort == column, board.reverse) {
            (false, _) => "",
            (true, false) => " v",
            (true, true) => " ^",
        };
        let text = Line::raw(format!("{}{mark}", title(column)));
        Cell::from(text.alignment(alignment(column)))
    });
    let body = rows.iter().map(|row| {
        TableRow::new(Column::ALL.map(|column| {
            let text = Line::raw(text(row, column)).alignment(alignment(column));
            let style = match (column, row.vm.state.as_str()) {
                (Column::State, "paused") => coloured(board, Color::Yellow),
                (Column::State, "stopped") => coloured(board, Color::Red),
                _ => Style::new(),
            };
            Cell::from(text).style(style)
        }))
    });
    let widths = Column::ALL.map(|column| match column {
        Column::Name => Constraint::Min(10),
        _ => Constraint::Length(10),
    });
    let table = Table::new(body, widths)
        .header(TableRow::new(header).style(Modifier::BOLD))
        .row_highlight_style(Modifier::REVERSED)
        .block(Block::bordered().title(format!(" {} VMs ", rows.len())));
    frame.render_stateful_widget(table, area, &mut state);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let answer = match &board.answer {
        Some(Ok(done)) => Line::styled(done.clone(), coloured(board, Color::Green)),
        Some(Err(error)) => Line::styled(error.clone(), coloured(board, Color::Red)),
        None => Line::raw(""),
    };
    frame.render_widget(Paragraph::new(vec![answer, Line::raw(HELP)]), area);
}

const fn title(column: Column) -> &'static str {
    match column {
        Column::Name => "VM",
        Column::State => "state",
        Column::Touched => "touched",
        Column::Private => "private",
        Column::Mapped => "mapped",
        Column::Zero => "zero",
        Column::Balloon => "balloon",
        Column::Breaks => "breaks/s",
        Column::Cpu => "CPU %",
    }
}

const fn alignment(column: Column) -> Alignment {
    match column {
        Column::Name | Column::State => Alignment::Left,
        _ => Alignment::Right,
    }
}

fn text(row: &Row, column: Column) -> String {
    let sample = &row.vm.sample;
    let rate = |value: Option<f64>, times: f64| {
        value.map_or("-".to_owned(), |value| format!("{:.0}", value * times))
    };
    match column {
        Column::Name => row.vm.name.clone(),
        Column::State => row.vm.state.clone(),
        Column::Touched => size(sample.touched_bytes),
        Column::Private => size(sample.private_bytes),
        Column::Mapped => size(sample.mapped_bytes),
        Column::Zero => size(sample.zero_bytes),
        Column::Balloon => size(sample.ballooned_bytes.unwrap_or(0)),
        Column::Breaks => rate(row.breaks, 1.0),
        Column::Cpu => rate(row.cpu, 100.0),
    }
}

/// Bytes for people.
#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes >= 1024.0 * 1024.0 * 1024.0 * 10.0 {
        format!("{:.1} GiB", bytes / (1024.0 * 1024.0 * 1024.0))
    } else if bytes >= 1024.0 * 1024.0 {
        format!("{:.1} MiB", bytes / (1024.0 * 1024.0))
    } else {
        format!("{:.0} KiB", bytes / 1024.0)
    }
}

/// Cells of a bar that a part of a whole fills.
fn part(bytes: u64, whole: u64, room: u16) -> usize {
    let cells = u128::from(bytes) * u128::from(room) / u128::from(whole.max(1));
    usize::try_from(cells).map_or(0, |cells| cells.min(usize::from(room)))
}

fn clock(seconds: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64(seconds).map_or(0, |time| time.as_secs());
    format!("{}:{:02}", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, VmView};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen(width: u16, height: u16, board: &Board) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, board)).unwrap();
        terminal.backend().to_string()
    }

    fn board() -> Board {
        let mut board = Board::new(false);
        let vms = ["web-1", "web-2"].map(|name| VmView {
            name: name.into(),
            state: "running".into(),
            sample: Sample {
                private_bytes: 3 << 20,
                ..Sample::default()
            },
        });
        let mut snapshot = Snapshot {
            experiment: "quick".into(),
            runs: 18,
            runs_done: 4,
            guests: 8,
            used_bytes: 64 << 20,
            vms: vms.into(),
            ..Snapshot::default()
        };
        snapshot.machine.guest_physical_bytes = 1 << 30;
        snapshot.machine.cell = "all".into();
        snapshot.switches.disk = Some(true);
        for (time, broken) in [(1.0, 0), (3.0, 84)] {
            snapshot.machine.time_seconds = time;
            snapshot.machine.broken_pages = broken;
            board.take(Message::Snapshot(Box::new(snapshot.clone())));
        }
        board
    }

    #[test]
    fn everything_is_on_a_terminal_of_80_by_24() {
        let screen = screen(80, 24, &board());
        for text in [
            "quick   all run 0",
            "4 of 18 runs",
            "guest-physical 1024.0 MiB",
            "used             64.0 MiB",
            "disk          0 KiB  on",
            "breaks   42/s",
            "web-2",
            "3.0 MiB",
            "q leave",
        ] {
            assert!(screen.contains(text), "{text} is not in\n{screen}");
        }
    }

    #[test]
    fn no_terminal_is_too_small() {
        for (width, height) in [(1, 1), (20, 5), (40, 12), (300, 100)] {
            screen(width, height, &board());
            screen(width, height, &Board::new(true));
        }
    }
}
