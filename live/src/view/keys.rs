//! Keys, and what they are for.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::Switch;

/// What a user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Leave the view.
    Leave,
    /// Select the VM above.
    Up,
    /// Select the VM below.
    Down,
    /// Sort by the next column.
    Sort,
    /// Sort the other way round.
    Reverse,
    /// Hold the selected VM, or let it go on.
    Pause,
    /// Turn a mechanism on or off.
    Switch(Switch),
}

/// The line that tells of them.
pub const HELP: &str =
    "q leave   up/down select   s sort   r reverse   p pause VM   d z c switch disk, zero, content";

/// What an event on the terminal asks for.
pub fn wish(event: &Event) -> Option<Wish> {
    let Event::Key(KeyEvent {
        code,
        modifiers,
        kind: KeyEventKind::Press,
        ..
    }) = event
    else {
        return None;
    };
    let wish = match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Wish::Leave,
        KeyCode::Char('q') | KeyCode::Esc => Wish::Leave,
        KeyCode::Up | KeyCode::Char('k') => Wish::Up,
        KeyCode::Down | KeyCode::Char('j') => Wish::Down,
        KeyCode::Char('s') => Wish::Sort,
        KeyCode::Char('r') => Wish::Reverse,
        KeyCode::Char('p') => Wish::Pause,
        KeyCode::Char('d') => Wish::Switch(Switch::Disk),
        KeyCode::Char('z') => Wish::Switch(Switch::Zero),
        KeyCode::Char('c') => Wish::Switch(Switch::Content),
        _ => return None,
    };
    Some(wish)
}
