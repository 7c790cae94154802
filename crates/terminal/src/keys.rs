//! What is typed while the program works.

/// While it lives, keys that are typed are not shown and wait until somebody reads them, Enter as
/// well; Ctrl-C works as ever. Where standard input is no terminal, and on systems other than Unix,
/// nothing changes.
#[derive(Debug)]
pub struct KeptKeys(());

impl KeptKeys {
    /// From now on.
    pub fn begin() -> Self {
        terminal::keep();
        Self(())
    }
}

impl Drop for KeptKeys {
    fn drop(&mut self) {
        restore_keys();
    }
}

/// Ends what [`KeptKeys`] began; for a program that ends at once.
pub fn restore_keys() {
    terminal::restore();
}

#[cfg(unix)]
mod terminal {
    use rustix::termios::{InputModes, LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
    use std::io::{IsTerminal as _, Write as _, stdin};
    use std::sync::{Mutex, PoisonError};

    /// Bracketed paste: what is pasted meanwhile arrives as one piece, too.
    const PASTE_ON: &[u8] = b"\x1b[?2004h";
    const PASTE_OFF: &[u8] = b"\x1b[?2004l";

    /// How the terminal was before.
    static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

    pub(super) fn keep() {
        let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_some() || !stdin().is_terminal() {
            return;
        }
        let Ok(found) = tcgetattr(stdin()) else { return };
        let mut kept = found.clone();
        kept.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON);
        // Ctrl-C ends the answer; what was typed before it is still meant.
        kept.local_modes.insert(LocalModes::NOFLSH);
        kept.input_modes.remove(InputModes::ICRNL);
        if tcsetattr(stdin(), OptionalActions::Now, &kept).is_ok() {
            *before = Some(found);
            write(PASTE_ON);
        }
    }

    pub(super) fn restore() {
        let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(before) = before {
            write(PASTE_OFF);
            let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
        }
    }

    fn write(sequence: &[u8]) {
        let mut output = crate::stdout();
        let _ = output.write_all(sequence).and_then(|()| output.flush());
    }
}

#[cfg(not(unix))]
mod terminal {
    pub(super) fn keep() {}

    pub(super) fn restore() {}
}
