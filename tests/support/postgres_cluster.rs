//! A PostgreSQL cluster of one test, which may be crashed without any other test noticing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A PostgreSQL cluster of one test, which may be crashed.
pub(crate) struct Cluster {
    folder: TempDir,
    bin: PathBuf,
    port: u16,
    is_root: bool,
    postmaster: Option<Child>,
}

impl Cluster {
    /// Makes a cluster with its safe defaults and starts it.
    pub(crate) fn start_new() -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let bin = std::env::var_os("NWORKFLOW_TEST_POSTGRES_BIN")
            .unwrap_or_else(|| panic!("NWORKFLOW_TEST_POSTGRES_BIN is not set: run `make test`, or `scripts/with-postgres cargo test`"));
        let folder = TempDir::new().unwrap();
        let is_root = folder.path().metadata().unwrap().uid() == 0;
        if is_root {
            assert!(Command::new("chown").arg("postgres").arg(folder.path()).status().unwrap().success());
        }
        let port = super::port::free();
        let mut cluster = Self { folder, bin: PathBuf::from(bin), port, is_root, postmaster: None };
        let options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-D"];
        let made = cluster.command("initdb").args(options).arg(cluster.data()).stdout(Stdio::null()).status().unwrap();
        assert!(made.success(), "initdb failed");
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nshared_buffers = 32MB\n",
            cluster.folder.path().display()
        );
        std::fs::write(cluster.data().join("postgresql.auto.conf"), settings).unwrap();
        cluster.start();
        cluster
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Who may connect from where, and how they prove it, from the next reload on.
    pub(crate) fn set_host_rules(&self, rules: &str) {
        std::fs::write(self.data().join("pg_hba.conf"), rules).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A program of PostgreSQL, as the user that may run it.
    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = if self.is_root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Starts it and waits until it takes connections.
    pub(crate) fn start(&mut self) {
        let log = self.folder.path().join("log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).stdout(Stdio::null()).stderr(file);
        self.postmaster = Some(command.spawn().unwrap());
        for _ in 0..1500 {
            let ready = self.command("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]).status().unwrap();
            if ready.success() {
                return;
            }
            pause();
        }
        panic!("PostgreSQL does not start: {}", std::fs::read_to_string(log).unwrap());
    }

    /// `kill -9` of a process that serves a connection. PostgreSQL then ends all of them and recovers.
    pub(crate) fn kill_backend(&self) {
        let postmaster = self.postmaster.as_ref().unwrap().id();
        let serves =
            |process: &u32| std::fs::read_to_string(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.contains("127.0.0.1("));
        // One that is at work, so that it is in the middle of something.
        let backends: Vec<u32> = children(postmaster).into_iter().filter(serves).collect();
        signal("KILL", *backends.first().expect("the server has connections"));
    }

    /// The end of the whole cluster, as of a machine that loses power, but for what the operating system has been given.
    pub(crate) fn crash(&mut self) {
        let mut postmaster = self.postmaster.take().unwrap();
        // Stopped, it does not notice that its children end, and cannot tidy up.
        signal("STOP", postmaster.id());
        children(postmaster.id()).into_iter().for_each(|child| signal("KILL", child));
        postmaster.kill().unwrap();
        postmaster.wait().unwrap();
        // Nobody else may start it, so its locks are of the dead.
        let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
        let _ = std::fs::remove_file(self.folder.path().join(format!(".s.PGSQL.{}.lock", self.port)));
    }
}

/// What a cluster had written at some time.
pub(crate) struct Copy(TempDir);

impl Cluster {
    /// All that it has written, while it does not run.
    pub(crate) fn copy(&self) -> Copy {
        assert!(self.postmaster.is_none(), "it runs");
        let folder = TempDir::new().unwrap();
        copy(&self.data(), &folder.path().join("data"));
        Copy(folder)
    }

    /// Makes it forget what it has written since.
    pub(crate) fn restore(&mut self, backup: &Copy) {
        assert!(self.postmaster.is_none(), "it runs");
        std::fs::remove_dir_all(self.data()).unwrap();
        copy(&backup.0.path().join("data"), &self.data());
    }
}

/// With owners and modes, which PostgreSQL insists on.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            signal("QUIT", postmaster.id());
            let _ = postmaster.wait();
        }
    }
}

/// The step of a bounded poll of another process.
pub(crate) fn pause() {
    std::thread::park_timeout(Duration::from_millis(10));
}

pub(crate) fn signal(name: &str, process: u32) {
    // It may have ended meanwhile.
    let _ = Command::new("sh").args(["-c", &format!("kill -{name} {process} 2>/dev/null")]).status();
}

/// The processes whose parent this one is.
fn children(parent: u32) -> Vec<u32> {
    let is_child = |process: &u32| {
        let stat = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).unwrap_or_default();
        // Behind the name, which may hold anything: state, parent.
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)) == Some(&parent.to_string())
    };
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    processes.filter(is_child).collect()
}
