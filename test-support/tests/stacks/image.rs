//! The one image: busybox, which needs no C library, and our client and server with the libraries
//! that they need. No registry is asked for it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;
use test_support::failure::Context;
use test_support::process::{self, PATIENCE};
use test_support::{Result, World};

/// What it is called.
pub(crate) const NAME: &str = "localhost/box:latest";

/// The same for the user 1000.
pub(crate) const OF_USER: &str = "localhost/box-of-user:latest";

/// Programs of busybox that are used by name.
const APPLETS: &[&str] = &["sh", "nc", "sleep", "cat", "id", "ip", "true", "wget", "httpd", "echo"];

#[derive(Debug)]
pub(crate) struct Image {
    /// The tree.
    pub(crate) root: PathBuf,
    /// The tree and what an engine wants to know of it, as `docker save` would write it.
    pub(crate) archive: PathBuf,
}

impl Image {
    /// Makes it once for all engines.
    pub(crate) fn make(world: &World) -> Result<Self> {
        let directory = world.programs().join("image");
        let (root, archive) = (directory.join("root"), directory.join("box.tar"));
        if archive.exists() {
            return Ok(Self { root, archive });
        }
        for dir in ["bin", "dev", "etc", "lib64", "proc", "sys", "tmp", "run"] {
            fs::create_dir_all(root.join(dir))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).context("/bin/busybox")?;
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")?;
        fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
        for name in ["fx-client", "fx-server"] {
            let to = root.join("bin").join(name);
            let program = world.program(name)?;
            let mut strip = world.on_host("strip");
            process::run(strip.arg("-o").arg(&to).arg(&program), PATIENCE)?.success()?;
            copy_libraries(world, &program, &root)?;
        }
        write_archive(world, &directory, &root, &archive)?;
        Ok(Self { root, archive })
    }
}

fn copy_libraries(world: &World, program: &Path, root: &Path) -> Result {
    let listed = process::run(world.on_host("ldd").arg(program), PATIENCE)?.success()?;
    for word in listed.stdout.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(word.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a library is in a directory")?)?;
        fs::copy(word, &to).context(word)?;
    }
    Ok(())
}

fn write_archive(world: &World, directory: &Path, root: &Path, archive: &Path) -> Result {
    let tar = |from: &Path, to: &Path, what: &[&str]| -> Result {
        let mut tar = world.on_host("tar");
        tar.arg("--owner=0").arg("--group=0").arg("--numeric-owner").arg("-C").arg(from);
        process::run(tar.arg("-cf").arg(to).args(what), PATIENCE)?.success()?;
        Ok(())
    };
    let layer = directory.join("layer.tar");
    tar(root, &layer, &["."])?;
    let sum = process::run(world.on_host("sha256sum").arg(&layer), PATIENCE)?.success()?;
    let digest = sum.stdout.split(' ').next().unwrap_or_default().to_owned();
    let config = |user: &str| {
        json!({
            "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
            "os": "linux",
            "config": { "Env": ["PATH=/bin"], "Cmd": ["sh"], "User": user },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        })
    };
    let image = |config: &str, name: &str| json!({ "Config": config, "RepoTags": [name], "Layers": ["layer.tar"] });
    let manifest = json!([image("root.json", NAME), image("user.json", OF_USER)]);
    fs::write(directory.join("root.json"), config("").to_string())?;
    fs::write(directory.join("user.json"), config("1000").to_string())?;
    fs::write(directory.join("manifest.json"), manifest.to_string())?;
    tar(directory, archive, &["manifest.json", "root.json", "user.json", "layer.tar"])
}
