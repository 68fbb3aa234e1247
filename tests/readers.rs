//! The programs that people open profiles with, on what pystrobe writes: their own code, and their servers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::support::interpreters::{self, Interpreter, on_each_version};
use crate::support::process::{PATIENCE, Running};
use crate::support::pstats::{Key, Stats};
use crate::support::pystrobe::pystrobe;
use crate::support::target::Target;
use crate::support::{machine, pstats, target_script, tests_folder};

on_each_version! {
    adds_up_with_cprofile = adds_up_with_cprofile;
}

/// A profile of `alternating.py`, what the newest `pstats` reads in it, and the readers' programs.
struct Opened {
    _folder: tempfile::TempDir,
    file: PathBuf,
    stats: Stats,
    readers: &'static Path,
}

/// Checks a sampled profile and a traced one.
fn each(check: impl Fn(&Opened)) {
    let _turn = machine::shared();
    let Some(readers) = interpreters::readers() else {
        return;
    };
    for record in [sample, trace] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.pstats");
        record(&file);
        check(&Opened {
            stats: pstats::read(interpreters::newest(), &file),
            _folder: folder,
            file,
            readers,
        });
    }
}

fn sample(file: &Path) {
    let target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    pystrobe(["attach", &target.pid().to_string(), "-d", "1", "-o"])
        .arg(file)
        .run()
        .ok();
}

fn trace(file: &Path) {
    pystrobe(["trace", "-o"])
        .arg(file)
        .arg("--python")
        .arg(&interpreters::newest().path)
        .arg(target_script("alternating.py"))
        .arg("50")
        .run()
        .ok();
}

impl Opened {
    /// Runs one of the readers' programs, or a script with their Python, on the file.
    fn output(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(self.readers.join("bin").join(program))
            .args(arguments)
            .arg(&self.file)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn python(&self, script: &str) -> Value {
        let script = tests_folder().join("support").join(script);
        serde_json::from_str(&self.output("python", &[script.to_str().unwrap()])).unwrap()
    }
}

/// A reader's server on a port of its own.
struct Server {
    _running: Running,
    port: u16,
}

impl Server {
    /// Starts it, and waits until it takes connections.
    fn start(command: &mut Command, port: u16) -> Server {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut running = Running::start(command);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                running.ended().is_none() && began.elapsed() < PATIENCE,
                "{command:?} does not listen"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Server {
            _running: running,
            port,
        }
    }

    /// The body of a page; the server has to find it.
    fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.lines().next().unwrap().contains(" 200"),
            "{path}: {answer}"
        );
        body.to_owned()
    }
}

/// A port that nobody uses at the moment.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// `12345` as `12,345`, as profiling-explorer's pages have it.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round_ties_even() as u64
}

#[test]
fn profiling_explorer_shows_the_right_rows() {
    each(|opened| {
        let port = free_port();
        let mut command = Command::new(opened.readers.join("bin/profiling-explorer"));
        command
            .arg(&opened.file)
            .args(["--port", &port.to_string()]);
        let server = Server::start(&mut command, port);

        // Cells without closing tags: calls, own ms, cumulative ms, and the function with its place.
        let page = server.page("/");
        let rows: Vec<&str> = page
            .split("<tr")
            .filter(|row| row.contains("callexs"))
            .collect();
        assert_eq!(rows.len(), opened.stats.rows.len().min(200));
        for name in ["fibonacci", "recursion", "loop", "alternate"] {
            let (key, row) = (
                opened.stats.key("alternating.py", name),
                opened.stats.row("alternating.py", name),
            );
            let place = format!("alternating.py:{} <pe-funcname>{name}</pe-funcname>", key.1);
            let shown = rows
                .iter()
                .find(|row| row.contains(&place))
                .unwrap_or_else(|| panic!("{place} in {page}"));
            for number in [row.nc, milliseconds(row.tt), milliseconds(row.ct)] {
                let cell = format!("<td>{}\n", with_commas(number));
                assert!(shown.contains(&cell), "{cell} in {shown}");
            }
        }

        let (_, rest) = page
            .split_once("<pe-funcname>fibonacci</pe-funcname>")
            .unwrap();
        let (_, rest) = rest.split_once("href=\"").unwrap();
        let (callers, _) = rest.split_once('"').unwrap();
        let callers = server.page(callers);
        for caller in ["recursion", "fibonacci"] {
            assert!(
                callers.contains(&format!("<pe-funcname>{caller}</pe-funcname>")),
                "{callers}"
            );
        }
        assert!(
            !callers.contains("<pe-funcname>loop</pe-funcname>"),
            "{callers}"
        );
    });
}

#[test]
fn snakeviz_shows_the_right_rows() {
    each(|opened| {
        let shown = opened.python("read_snakeviz.py");
        assert_eq!(
            shown["rows"].as_array().unwrap().len(),
            opened.stats.rows.len()
        );
        // What it draws is what is below a root: a function that nothing calls, with all of the time.
        let graph = shown["graph"].as_object().unwrap();
        let called: BTreeSet<&String> = graph
            .values()
            .flat_map(|function| function["children"].as_object().unwrap().keys())
            .collect();
        let roots: f64 = graph
            .iter()
            .filter(|(name, _)| !called.contains(name))
            .map(|(_, function)| function["stats"][3].as_f64().unwrap())
            .sum();
        assert!(
            (roots / opened.stats.own_time() - 1.0).abs() < 1e-6,
            "{roots} of {}",
            opened.stats.own_time()
        );
        for (key, row) in &opened.stats.rows {
            let function = &graph[&format!("{}:{}({})", key.0, key.1, key.2)];
            assert_eq!(function["stats"][0], row.cc);
            assert_eq!(
                function["callers"].as_object().unwrap().len(),
                row.callers.len()
            );
        }

        let port = free_port();
        let mut command = Command::new(opened.readers.join("bin/snakeviz"));
        command
            .args(["--server", "--port", &port.to_string()])
            .arg(&opened.file);
        let server = Server::start(&mut command, port);
        let escaped = opened.file.to_str().unwrap().replace('/', "%2F");
        let page = server.page(&format!("/snakeviz/{escaped}"));
        assert!(
            page.contains("(fibonacci)") && page.contains("(loop)"),
            "{page}"
        );
    });
}

#[test]
fn tuna_shows_the_right_tree() {
    each(|opened| {
        let tree = opened.python("read_tuna.py");
        // Nodes that are no functions carry time; together, all of it.
        let mut names = BTreeSet::new();
        let mut rest = vec![&tree];
        let mut time = 0.0;
        while let Some(node) = rest.pop() {
            names.insert(node["text"][0].as_str().unwrap().to_owned());
            time += node["value"].as_f64().unwrap_or(0.0);
            rest.extend(node["children"].as_array().into_iter().flatten());
        }
        for name in ["recursion", "loop", "alternate"] {
            let key = opened.stats.key("alternating.py", name);
            let text = format!("{}::{}::{}", key.0, key.1, key.2);
            assert!(names.contains(&text), "{text} in {names:?}");
        }
        // Where a function with several callers calls others, tuna does not know for whom, and shows all under each.
        let is_ambiguous = names.contains("Possible calls of");
        assert!(
            is_ambiguous || (time / opened.stats.own_time() - 1.0).abs() < 0.05,
            "{time} of {}",
            opened.stats.own_time()
        );

        let folder = tempfile::tempdir().unwrap();
        opened.output(
            "tuna",
            &["--no-browser", "--outdir", folder.path().to_str().unwrap()],
        );
        let page = std::fs::read_to_string(folder.path().join("index.html")).unwrap();
        assert!(page.contains("::fibonacci"));

        let port = free_port();
        let mut command = Command::new(opened.readers.join("bin/tuna"));
        command
            .args(["--no-browser", "--port", &port.to_string()])
            .arg(&opened.file);
        assert!(
            Server::start(&mut command, port)
                .page("/")
                .contains("::fibonacci")
        );
    });
}

#[test]
fn gprof2dot_draws_the_right_edges() {
    each(|opened| {
        let dot = opened.output("gprof2dot", &["-f", "pstats", "-n", "0", "-e", "0"]);
        // Nodes are numbers; their labels say which function they are: `module:line:name`.
        let mut labels: BTreeMap<&str, String> = BTreeMap::new();
        let mut edges: BTreeSet<(&str, &str)> = BTreeSet::new();
        for line in dot.lines().map(str::trim) {
            let Some((node, attributes)) = line.split_once(" [") else {
                continue;
            };
            if let Some((caller, callee)) = node.split_once(" -> ") {
                edges.insert((caller, callee));
            } else if let Some((_, label)) = attributes.split_once("label=\"") {
                let (label, _) = label.split_once("\\n").unwrap_or((label, ""));
                labels.insert(node, label.to_owned());
            }
        }
        let drawn: BTreeSet<(String, String)> = edges
            .iter()
            .map(|(caller, callee)| (labels[caller].clone(), labels[callee].clone()))
            .collect();
        let label = |(file, line, name): &Key| {
            let module = Path::new(file)
                .file_stem()
                .unwrap_or_default()
                .to_str()
                .unwrap();
            format!("{module}:{line}:{name}")
        };
        let expected: BTreeSet<(String, String)> = opened
            .stats
            .rows
            .iter()
            .flat_map(|(key, row)| {
                row.callers
                    .iter()
                    .map(move |edge| (label(&edge.key), label(key)))
            })
            .collect();
        let of_program = |edges: &BTreeSet<(String, String)>| -> BTreeSet<(String, String)> {
            edges
                .iter()
                .filter(|(_, callee)| callee.starts_with("alternating:"))
                .cloned()
                .collect()
        };
        assert!(!of_program(&expected).is_empty());
        assert_eq!(of_program(&drawn), of_program(&expected), "{dot}");
    });
}

fn adds_up_with_cprofile(python: &'static Interpreter) {
    let _turn = machine::shared();
    let folder = tempfile::tempdir().unwrap();
    let script = target_script("ending.py");
    let script = script.to_str().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (traced, sampled) = (path("traced.pstats"), path("sampled.pstats"));
    python.output(&["-m", "cProfile", "-o", &traced, script, "return"]);
    pystrobe([
        "run",
        "-o",
        &sampled,
        "--python",
        python.path.to_str().unwrap(),
        script,
        "return",
    ])
    .run()
    .ok();
    let helper = tests_folder().join("support/add_pstats.py");
    python.output(&[helper.to_str().unwrap(), &traced, &sampled, script]);
}
