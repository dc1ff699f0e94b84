//! What stands behind the host's KVM.

use std::path::Path;

/// What stands behind KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Intel,
    Amd,
    Pvm,
    None,
    /// The kernel's modules cannot be seen.
    Unseen,
}

/// What stands behind KVM, from the folder of the kernel's modules. One that is
/// built in has its folder there, too.
pub(crate) fn backend(modules: &Path) -> Backend {
    const KNOWN: [(&str, Backend); 3] =
        [("kvm_pvm", Backend::Pvm), ("kvm_intel", Backend::Intel), ("kvm_amd", Backend::Amd)];
    if !modules.is_dir() {
        return Backend::Unseen;
    }
    let loaded = KNOWN.into_iter().find(|(module, _)| modules.join(module).exists());
    loaded.map_or(Backend::None, |(_, backend)| backend)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_backend_is_known_by_its_module() {
        let modules = tempfile::tempdir().unwrap();
        let missing = modules.path().join("none");
        assert_eq!(backend(&missing), Backend::Unseen);
        assert_eq!(backend(modules.path()), Backend::None);
        fs::create_dir(modules.path().join("kvm_amd")).unwrap();
        assert_eq!(backend(modules.path()), Backend::Amd);
        fs::create_dir(modules.path().join("kvm_pvm")).unwrap();
        assert_eq!(backend(modules.path()), Backend::Pvm);
    }
}
