//! Has a shadow do what the plugin in charge has done.

use crate::record::{CallLog, HostCall, during, replaying};

/// What the plugin in charge changed, and what its shadow would have changed.
pub(crate) struct Changes {
    pub(super) in_charge: Vec<HostCall>,
    pub(super) shadow: Vec<HostCall>,
}

/// Has a shadow do what the plugin in charge has done, with the same replies. Says
/// what each changed, if that is not the same.
pub(crate) fn beside<R>(replies: CallLog, f: impl FnOnce() -> R) -> (R, Option<Changes>) {
    let in_charge: Vec<HostCall> = replies.effects().cloned().collect();
    let ((result, _), own) = during(|| replaying(replies.calls, f));
    let shadow: Vec<HostCall> = own.effects().cloned().collect();
    let is_same = agree((&in_charge, replies.cut), (&shadow, own.cut));
    (result, (!is_same).then_some(Changes { in_charge, shadow }))
}

/// Whether two lists are the same, as far as they are known: a list that was cut
/// has an unknown end.
fn agree(one: (&[HostCall], bool), other: (&[HostCall], bool)) -> bool {
    let ((shorter, is_cut), (longer, _)) =
        if one.0.len() <= other.0.len() { (one, other) } else { (other, one) };
    longer.starts_with(shorter) && (is_cut || shorter.len() == longer.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Hex;

    fn timers(times: &[u64]) -> Vec<HostCall> {
        times.iter().map(|&at| HostCall::WakeAt { vcpu: 0, at: Hex(at) }).collect()
    }

    #[test]
    fn what_was_cut_is_compared_as_far_as_it_goes() {
        let check = |one: &[u64], one_cut, other: &[u64], other_cut, expected| {
            let (one, other) = (timers(one), timers(other));
            assert_eq!(agree((&one, one_cut), (&other, other_cut)), expected);
            assert_eq!(agree((&other, other_cut), (&one, one_cut)), expected);
        };
        check(&[1, 2], false, &[1, 2], false, true);
        check(&[1, 2], false, &[1, 3], false, false);
        check(&[1], false, &[1, 2], false, false);
        check(&[1], true, &[1, 2], false, true);
        check(&[1], false, &[1, 2], true, false);
        check(&[2], true, &[1, 2], true, false);
    }
}
