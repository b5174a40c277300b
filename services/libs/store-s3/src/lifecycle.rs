//! What a bucket's lifecycle rules do to footage.

use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule, TransitionStorageClass};
use jiff::SignedDuration;

/// The rules that may concern footage.
fn concerning<'r>(rules: &'r [LifecycleRule], footage: &'r str) -> impl Iterator<Item = &'r LifecycleRule> {
    let enabled = rules.iter().filter(|rule| *rule.status() == ExpirationStatus::Enabled);
    enabled.filter(move |rule| {
        // Older rules have their prefix beside the filter.
        #[allow(deprecated)]
        let prefix =
            rule.filter().and_then(|filter| filter.prefix().or_else(|| filter.and()?.prefix())).or(rule.prefix());
        let prefix = prefix.unwrap_or_default();
        prefix.starts_with(footage) || footage.starts_with(prefix)
    })
}

/// The ids of rules that remove objects or their versions, hide them behind a delete marker, or move them to where nothing can be read at once.
pub fn removing(rules: &[LifecycleRule], footage: &str) -> Vec<String> {
    let removes = |rule: &&LifecycleRule| {
        let expiration = rule.expiration().is_some_and(|at| at.days().is_some() || at.date().is_some());
        let archived = |class: Option<&TransitionStorageClass>| {
            class.is_some_and(|class| {
                matches!(class, TransitionStorageClass::Glacier | TransitionStorageClass::DeepArchive)
            })
        };
        expiration
            || rule.noncurrent_version_expiration().is_some()
            || rule.transitions().iter().any(|to| archived(to.storage_class()))
            || rule.noncurrent_version_transitions().iter().any(|to| archived(to.storage_class()))
    };
    concerning(rules, footage).filter(removes).map(|rule| rule.id().unwrap_or("without an id").to_owned()).collect()
}

/// After what time the first rule that may concern footage aborts an unfinished upload.
pub fn shortest_abort(rules: &[LifecycleRule], footage: &str) -> Option<SignedDuration> {
    let aborts = |rule: &LifecycleRule| rule.abort_incomplete_multipart_upload()?.days_after_initiation();
    let days = concerning(rules, footage).filter_map(aborts);
    days.min().map(|days| SignedDuration::from_hours(24 * i64::from(days)))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{AbortIncompleteMultipartUpload, LifecycleRuleFilter};

    use super::*;

    const FOOTAGE: &str = "v1/";

    fn rule(prefix: &str, days: i32, status: ExpirationStatus) -> LifecycleRule {
        let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(days).build();
        let filter = LifecycleRuleFilter::builder().prefix(prefix).build();
        let rule = LifecycleRule::builder().filter(filter).status(status);
        rule.abort_incomplete_multipart_upload(abort).build().unwrap()
    }

    #[test]
    fn rules_that_remove_footage_are_found() {
        use ExpirationStatus::Enabled;
        use aws_sdk_s3::types::{
            LifecycleExpiration, LifecycleRuleAndOperator, NoncurrentVersionExpiration, Transition,
        };
        let rule = |id: &str, prefix: &str| {
            let filter = LifecycleRuleFilter::builder().prefix(prefix).build();
            LifecycleRule::builder().id(id).filter(filter).status(ExpirationStatus::Enabled)
        };
        let days = LifecycleExpiration::builder().days(200).build();
        let markers = LifecycleExpiration::builder().expired_object_delete_marker(true).build();
        let versions = NoncurrentVersionExpiration::builder().noncurrent_days(1).build();
        let archived = Transition::builder().days(30).storage_class(TransitionStorageClass::DeepArchive).build();
        let both = LifecycleRuleAndOperator::builder().prefix("logs/").object_size_greater_than(1).build();
        let both = LifecycleRuleFilter::builder().and(both).build();
        let rules = [
            rule("days", "").expiration(days.clone()).build().unwrap(),
            rule("markers", "").expiration(markers).build().unwrap(),
            rule("versions", "v1/demo/").noncurrent_version_expiration(versions).build().unwrap(),
            rule("others", "logs/").expiration(days.clone()).build().unwrap(),
            LifecycleRule::builder().id("both").filter(both).expiration(days.clone()).status(Enabled).build().unwrap(),
            rule("archived", "").transitions(archived).build().unwrap(),
            LifecycleRule::builder().id("off").expiration(days).status(ExpirationStatus::Disabled).build().unwrap(),
        ];
        assert_eq!(removing(&rules, FOOTAGE), ["days", "versions", "archived"]);
    }

    #[test]
    fn the_first_rule_that_concerns_footage_counts() {
        use ExpirationStatus::{Disabled, Enabled};
        assert_eq!(shortest_abort(&[], FOOTAGE), None);
        assert_eq!(shortest_abort(&[rule("logs/", 1, Enabled.clone()), rule("", 1, Disabled)], FOOTAGE), None);
        let rules = [rule("", 40, Enabled.clone()), rule("v1/demo/", 7, Enabled)];
        assert_eq!(shortest_abort(&rules, FOOTAGE), Some(SignedDuration::from_hours(7 * 24)));
        assert_eq!(shortest_abort(&rules, "county/v1/"), Some(SignedDuration::from_hours(40 * 24)));
    }
}
