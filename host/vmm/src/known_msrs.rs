//! The MSRs that this host's KVM says it has.

use std::collections::BTreeSet;

use wasmsr_interface::MsrIndex;

use crate::kvm::{self, KvmError};

/// The MSRs of `KVM_GET_MSR_INDEX_LIST` and `KVM_GET_MSR_FEATURE_INDEX_LIST` (KVM api
/// 4.3). KVM emulates others as well, such as the MTRRs, and may refuse some of these
/// to a guest.
///
/// # Errors
/// [`KvmError`], with what to do about it.
pub fn known_msrs() -> Result<BTreeSet<MsrIndex>, KvmError> {
    let kvm = kvm::open_device()?;
    let lists = [kvm.get_msr_index_list(), kvm.get_msr_feature_index_list()];
    let mut known = BTreeSet::new();
    for list in lists {
        let list = list.map_err(KvmError::Open)?;
        known.extend(list.as_slice().iter().copied().map(MsrIndex));
    }
    Ok(known)
}
