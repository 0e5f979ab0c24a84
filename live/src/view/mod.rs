//! The view on a terminal: the machine above, its VMs below, keys to change what is seen or done.

mod board;
mod draw;
mod keys;

use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use ratatui::crossterm::event;

use crate::client::Messages;
use crate::{Client, LiveError, Message};
use board::Board;
use keys::Wish;

/// How long a key may wait.
const TICK: Duration = Duration::from_millis(50);

/// How the view ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The run has ended.
    Run,
    /// The user has seen enough; the run goes on.
    User,
}

/// Shows a run on this terminal until it ends or the user leaves.
///
/// # Errors
/// The terminal can't be used, or the run says what can't be understood.
pub fn show(mut client: Client, messages: Messages) -> Result<End, LiveError> {
    let incoming = receive(messages);
    let mut terminal = ratatui::try_init().map_err(LiveError::Terminal)?;
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let end = watch(&mut terminal, &mut client, &incoming, colour);
    ratatui::restore();
    end
}

/// Whether there is a terminal to show it on.
#[must_use]
pub fn possible() -> bool {
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

/// Messages as they come; the channel closes when the run has ended.
fn receive(messages: Messages) -> Receiver<Result<Message, LiveError>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for message in messages {
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    client: &mut Client,
    incoming: &Receiver<Result<Message, LiveError>>,
    colour: bool,
) -> Result<End, LiveError> {
    let mut board = Board::new(colour);
    loop {
        loop {
            match incoming.try_recv() {
                Ok(message) => board.take(message?),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(End::Run),
            }
        }
        terminal
            .draw(|frame| draw::draw(frame, &board))
            .map_err(LiveError::Terminal)?;
        if !event::poll(TICK).map_err(LiveError::Terminal)? {
            continue;
        }
        let event = event::read().map_err(LiveError::Terminal)?;
        match keys::wish(&event) {
            Some(Wish::Leave) => return Ok(End::User),
            Some(wish) => {
                if let Some(request) = board.wish(wish) {
                    client.ask(&request)?;
                }
            }
            None => {}
        }
    }
}
