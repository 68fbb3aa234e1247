//! Ctrl-C while we record or write: the first saves, the second aborts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pystrobe_sampling::Stopper;
use signal_hook::consts::signal::SIGINT;

use crate::errors::Failure;
use crate::litter::Litter;
use crate::signals::{self, Signal};

/// Reacts to the signals that end a recording, from the moment it is made.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    litter: Litter,
    stop: Mutex<Stop>,
    /// Everything is saved; what runs now is the viewer.
    saved: AtomicBool,
}

#[derive(Debug, Default)]
struct Stop {
    asked: bool,
    stopper: Option<Stopper>,
}

impl Interrupts {
    /// Installs the handlers. To be called before the first temporary file is created.
    ///
    /// # Errors
    ///
    /// Where the system does not let us.
    pub(crate) fn watch(litter: &Litter) -> Result<Interrupts, Failure> {
        Interrupts::with(litter, Stop::default())
    }

    /// The same where there is nothing to stop and save: the first signal aborts.
    ///
    /// # Errors
    ///
    /// Where the system does not let us.
    pub(crate) fn abort_at_once(litter: &Litter) -> Result<Interrupts, Failure> {
        let stop = Stop {
            asked: true,
            stopper: None,
        };
        Interrupts::with(litter, stop)
    }

    fn with(litter: &Litter, stop: Stop) -> Result<Interrupts, Failure> {
        let shared = Arc::new(Shared {
            litter: litter.clone(),
            stop: Mutex::new(stop),
            saved: AtomicBool::new(false),
        });
        let interrupts = Interrupts { shared };
        let reacting = interrupts.clone();
        signals::watch(&signals::that_end_a_recording(), move |signal| {
            reacting.react(signal);
        })
        .map_err(|source| Failure::System {
            doing: "cannot handle signals",
            source,
        })?;
        Ok(interrupts)
    }

    /// Says whom the first signal stops; at once, where it has come already.
    pub(crate) fn connect(&self, stopper: Stopper) {
        let mut stop = self.lock();
        if stop.asked {
            stopper.stop();
        }
        stop.stopper = Some(stopper);
    }

    /// From now on Ctrl-C is the viewer's business, and every other signal ends us.
    pub(crate) fn saved(&self) {
        self.shared.saved.store(true, Ordering::SeqCst);
    }

    fn react(&self, signal: Signal) {
        if self.shared.saved.load(Ordering::SeqCst) {
            if signal.number != SIGINT {
                self.shared.litter.abort(signal.number);
            }
            return;
        }
        let mut stop = self.lock();
        if stop.asked {
            self.shared.litter.abort(signal.number);
        }
        stop.asked = true;
        if let Some(stopper) = &stop.stopper {
            stopper.stop();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stop> {
        self.shared
            .stop
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
