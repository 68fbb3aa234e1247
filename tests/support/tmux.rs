//! A terminal whose screen can be read: tmux takes keys, draws, and says what it has drawn.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::process::PATIENCE;
use super::pystrobe::PROGRAM;
use super::skip;

/// Writes down what the terminal's settings and pystrobe's process id and status are. When pystrobe is stopped, Enter brings
/// it back. Ends when the window is closed. (A shell with jobs takes a job's end by SIGINT for its own, unless it has a trap.)
const SESSION: &str = r#"
echo the screen before
stty -g >before
set -m
trap : INT
sh -c 'echo $$ >pid.new; mv pid.new pid; exec "$@"' sh "$@"
status=$?
while [ $status = 147 ] || [ $status = 148 ]; do
  echo the screen between
  stty -g >between.new; mv between.new between
  read -r _
  fg
  status=$?
done
echo $status >status
stty -g >after
echo the screen after
exec cat
"#;

/// The whole window is the program's, and an Escape is one at once.
const SETTINGS: &str = "set -g status off\nset -g escape-time 0\n";

/// A window with a pystrobe in it. It is closed when it goes out of scope.
pub(crate) struct Tmux {
    folder: tempfile::TempDir,
}

impl Tmux {
    /// Starts pystrobe with these words in a folder of its own and a window of that many columns and rows; `None` where
    /// there is no tmux. `settings` are put into its environment.
    pub(crate) fn start(
        size: (u16, u16),
        settings: &[(&str, &str)],
        words: &[&str],
    ) -> Option<Tmux> {
        if Command::new("tmux").arg("-V").output().is_err() {
            skip("tmux is not installed; tests/run installs it");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("session.sh"), SESSION).unwrap();
        std::fs::write(folder.path().join("settings"), SETTINGS).unwrap();
        let tmux = Tmux { folder };
        let mut command = tmux.command(&["new-session", "-d"]);
        command
            .args(["-x", &size.0.to_string(), "-y", &size.1.to_string()])
            .arg("-c")
            .arg(tmux.folder.path())
            .args(["env", "-u", "NO_COLOR", "PYTHONDONTWRITEBYTECODE=1"]);
        for (name, value) in settings {
            command.arg(format!("{name}={value}"));
        }
        command.args(["sh", "session.sh", PROGRAM]).args(words);
        succeeded(&command.output().unwrap());
        Some(tmux)
    }

    /// The folder in which pystrobe runs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Presses keys, as tmux calls them: `q`, `Enter`, `C-c`.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.tell(&[&["send-keys"], keys].concat());
    }

    /// Types a text.
    pub(crate) fn type_in(&self, text: &str) {
        self.tell(&["send-keys", "-l", text]);
    }

    /// Changes the size of the window.
    pub(crate) fn resize(&self, size: (u16, u16)) {
        let (width, height) = (size.0.to_string(), size.1.to_string());
        self.tell(&["resize-window", "-x", &width, "-y", &height]);
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        self.tell(&["capture-pane", "-p"])
    }

    /// The same with the sequences that colour it.
    pub(crate) fn screen_with_colors(&self) -> String {
        self.tell(&["capture-pane", "-p", "-e"])
    }

    /// Whether the alternate screen is shown.
    pub(crate) fn is_alternate(&self) -> bool {
        self.tell(&["display-message", "-p", "#{alternate_on}"])
            .trim()
            == "1"
    }

    /// Waits until the screen is as wanted, and gives it.
    pub(crate) fn until(&self, what: &str, found: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let screen = self.screen();
            if found(&screen) {
                return screen;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "waited for {what} on this screen:\n{screen}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the screen shows a text, and gives the screen.
    pub(crate) fn shows(&self, text: &str) -> String {
        self.until(&format!("`{text}`"), |screen| screen.contains(text))
    }

    /// The process id of pystrobe.
    pub(crate) fn pid(&self) -> u32 {
        self.file("pid").trim().parse().unwrap()
    }

    /// Waits until pystrobe has ended and holds it to having left the terminal as it was; gives its status.
    pub(crate) fn ended(&self) -> i32 {
        let screen = self.shows("the screen after");
        assert!(screen.contains("the screen before"), "{screen}");
        assert!(!self.is_alternate());
        assert_eq!(self.file("before"), self.file("after"), "stty -g");
        self.file("status").trim().parse().unwrap()
    }

    /// Waits until pystrobe was stopped and holds it to having left the terminal as it was; then brings it back.
    pub(crate) fn stopped(&self) {
        assert_eq!(self.file("before"), self.file("between"), "stty -g");
        let screen = self.shows("the screen between");
        assert!(screen.contains("the screen before"), "{screen}");
        assert!(!self.is_alternate());
        std::fs::remove_file(self.folder.path().join("between")).unwrap();
        self.press(&["Enter"]);
    }

    /// Closes the window, as one does who has lost interest.
    pub(crate) fn hang_up(&self) {
        self.tell(&["kill-server"]);
    }

    /// Waits for a file of the session, and reads it.
    fn file(&self, name: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        let began = Instant::now();
        loop {
            match std::fs::read_to_string(&path) {
                Ok(text) if !text.is_empty() => return text,
                _ => assert!(began.elapsed() < PATIENCE, "no {}", path.display()),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn tell(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        succeeded(&output);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A server of its own for each window, with nobody's settings.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command
            .arg("-u")
            .arg("-S")
            .arg(self.folder.path().join("tmux"))
            .arg("-f")
            .arg(self.folder.path().join("settings"))
            .args(words)
            .env_remove("TMUX")
            .env("TERM", "xterm-256color");
        command
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.command(&["kill-server"]).output();
    }
}

fn succeeded(output: &Output) {
    assert!(
        output.status.success(),
        "tmux: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
