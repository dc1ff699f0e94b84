//! `wasmsr plugin pack` and `wasmsr plugin manifest`: puts a manifest into a module's
//! file, and shows it.

use std::fs::{self, File, Metadata};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use wasmsr_engine::manifest::Manifest;
use wasmsr_engine::plugin::{self, Packed};

use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;
use crate::terminal::plain::{plain, plain_up_to};
use crate::whole_file::WholeFile;

/// Gives a file a manifest, in place of any that it has.
pub(crate) fn pack(args: &args::Pack) -> Result<Code, Failure> {
    let of_manifest = || format!("manifest {}", args.manifest.display());
    let of_module = || format!("plugin {}", args.file.display());
    let manifest = fs::read(&args.manifest).with_context(of_manifest).map_err(Failure::input)?;
    Manifest::parse(&manifest).with_context(of_manifest).map_err(Failure::input)?;
    let module = plugin::read_module(&args.file).with_context(of_module).map_err(Failure::input)?;
    let packed =
        plugin::pack(&module, &manifest).with_context(of_module).map_err(Failure::input)?;
    let target = args.output.as_deref().unwrap_or(&args.file);
    if target != args.file || packed.bytes != module {
        fits(target, &args.manifest)
            .with_context(|| format!("cannot write {}", target.display()))
            .map_err(Failure::input)?;
        replace(target, &args.file, &packed.bytes)
            .with_context(|| format!("cannot write {}", target.display()))
            .map_err(Failure::host)?;
    }
    print(&for_people(target, &packed)).map_err(Failure::output)?;
    Ok(Code::SUCCESS)
}

/// Shows the manifest of a file.
pub(crate) fn manifest(args: &args::ShowManifest) -> Result<Code, Failure> {
    let text = plugin::manifest_text(&args.file)
        .with_context(|| format!("plugin {}", args.file.display()))
        .map_err(Failure::input)?;
    let written = match io::stdout().is_terminal() {
        true => {
            let line = |line: &str| plain_up_to(&line.replace('\t', "    "), usize::MAX);
            print(&text.lines().map(|text| line(text) + "\n").collect::<String>())
        }
        // Into a file, byte for byte.
        false => print(&text),
    };
    written.map_err(Failure::output)?;
    Ok(Code::SUCCESS)
}

/// Makes sure that a module may take the file's place: the manifest, and what is no module,
/// would be lost.
fn fits(target: &Path, manifest: &Path) -> anyhow::Result<()> {
    let Ok(there) = fs::metadata(target) else { return Ok(()) };
    let is_there = |other: Metadata| (other.dev(), other.ino()) == (there.dev(), there.ino());
    if there.is_file() && fs::metadata(manifest).is_ok_and(is_there) {
        bail!("it is the manifest; name the module that is to be written");
    }
    if there.is_file() && there.len() > 0 {
        let mut head = Vec::new();
        File::open(target)?.take(WASM.len() as u64).read_to_end(&mut head)?;
        if head != WASM {
            bail!("the file exists and is not a WebAssembly module; name another");
        }
    }
    Ok(())
}

/// What every module begins with.
const WASM: &[u8] = b"\0asm";

/// Puts the bytes at their place in one step, with the permissions of the module.
fn replace(place: &Path, module: &Path, bytes: &[u8]) -> io::Result<()> {
    // The target of a link is replaced, not the link.
    let place = fs::canonicalize(place).unwrap_or_else(|_| place.to_owned());
    // A device or a pipe would be gone.
    if fs::metadata(&place).is_ok_and(|about| !about.is_file()) {
        return Err(io::Error::other("it is not a regular file; give the path of a .wasm file"));
    }
    let mut file = WholeFile::beside(&place)?;
    file.write_all(bytes)?;
    file.permit(fs::metadata(module)?.permissions())?;
    file.replace()
}

fn for_people(file: &Path, packed: &Packed) -> String {
    let about = &packed.inspection.manifest.plugin;
    let before = match packed.replaced {
        0 => "it had none before".to_owned(),
        1 => "in place of one".to_owned(),
        count => format!("in place of {count}"),
    };
    format!(
        "plugin    {} {}\nfile      {}\nmanifest  {} bytes, {before}\nSHA-256   {}\n",
        plain(&about.name),
        plain(&about.version.to_string()),
        plain(&file.display().to_string()),
        packed.inspection.manifest_text.len(),
        packed.inspection.sha256,
    )
}
