//! What the kernel is asked to refuse: a Landlock ruleset around the server, and seccomp filters
//! for judges and candidates.
//!
//! The ruleset is put on by this program started anew, which then becomes the interpreter: nothing
//! runs between fork and exec, so no unsafe code is needed. The filters are passed to the harness,
//! which puts them on with `prctl` after its last forbidden call.

/// The first argument of this program when it is to become a confined interpreter.
pub(super) const ENTER: &str = "__confined";

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{enter, filters, offered};
#[cfg(target_os = "linux")]
pub(super) use linux::{enter, filters, offered};

/// The filters of both kinds of process, each a program of the kernel's in hexadecimal.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Filters {
    #[serde(rename = "judge_filters")]
    pub(super) judge: Vec<String>,
    #[serde(rename = "candidate_filters")]
    pub(super) candidate: Vec<String>,
    /// Has the kernel ask the judge about each call that makes a thread.
    #[serde(rename = "thread_filter")]
    pub(super) threads: String,
    /// Refuses such calls, where the kernel cannot ask.
    #[serde(rename = "no_thread_filter")]
    pub(super) no_threads: String,
    /// The number of the system call `seccomp`.
    pub(super) seccomp_call: i64,
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::process::ExitCode;

    pub(in super::super) fn offered() -> Result<(), String> {
        Err("Landlock and seccomp are Linux's".to_owned())
    }

    pub(in super::super) fn enter() -> Option<ExitCode> {
        None
    }

    pub(in super::super) fn filters() -> Result<super::Filters, String> {
        offered().map(|()| unreachable!("nothing is offered"))
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::io::Write as _;
    use std::os::unix::process::CommandExt as _;
    use std::path::PathBuf;
    use std::process::{Command, ExitCode};

    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset,
        RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
    };
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch, sock_filter,
    };

    use super::{ENTER, Filters};

    /// Where shared libraries, their index and time zones lie; none of it is a user's.
    const SYSTEM: [&str; 8] = [
        "/lib",
        "/lib64",
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/usr/share/zoneinfo",
        "/etc/ld.so.cache",
        "/nix/store",
    ];

    /// Whether the kernel knows Landlock at all and has filters for this processor.
    pub(in super::super) fn offered() -> Result<(), String> {
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))
            .and_then(Ruleset::create)
            .map_err(|error| format!("the kernel offers no Landlock ({error})"))?;
        filters().map(|_| ())
    }

    /// Where the command line says so: confines this process and becomes the interpreter.
    pub(in super::super) fn enter() -> Option<ExitCode> {
        let mut arguments = std::env::args_os().skip(1);
        if arguments.next()? != ENTER {
            return None;
        }
        let reads = arguments.next().unwrap_or_default();
        let reads: Vec<PathBuf> = std::env::split_paths(&reads).collect();
        let why = match (confine(&reads), arguments.next()) {
            (Err(why), _) => why,
            (Ok(()), None) => "no interpreter is named".to_owned(),
            (Ok(()), Some(program)) => {
                let error = Command::new(&program).args(arguments).exec();
                format!("cannot run `{}`: {error}", program.display())
            }
        };
        let message = serde_json::json!({ "cannot": why }).to_string();
        let mut report = u32::try_from(message.len())
            .unwrap_or(0)
            .to_be_bytes()
            .to_vec();
        report.extend(message.as_bytes());
        // Nobody is left to tell if the pipe is closed.
        let _ = std::io::stdout().write_all(&report);
        Some(ExitCode::FAILURE)
    }

    /// Puts the ruleset on: reading of `reads` and the system's libraries, and nothing else.
    fn confine(reads: &[PathBuf]) -> Result<(), String> {
        let system = SYSTEM.iter().map(PathBuf::from);
        let readable: Vec<PathBuf> = system.chain(reads.iter().cloned()).collect();
        let enforced = Ruleset::default()
            .handle_access(AccessFs::from_all(ABI::V5))
            .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V5)))
            .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI::V6)))
            .and_then(Ruleset::create)
            .and_then(|created| {
                created.add_rules(path_beneath_rules(readable, AccessFs::from_read(ABI::V1)))
            })
            .and_then(|created| {
                let null = AccessFs::ReadFile | AccessFs::WriteFile;
                created.add_rules(path_beneath_rules(["/dev/null"], null))
            })
            .and_then(|created| created.restrict_self())
            .map_err(|error| format!("Landlock: {error}"))?;
        match enforced.ruleset {
            RulesetStatus::NotEnforced => Err("the kernel enforces no Landlock rule".to_owned()),
            _ if !enforced.no_new_privs => Err("no_new_privs cannot be set".to_owned()),
            _ => Ok(()),
        }
    }

    /// What an interpreter calls in the course of any program.
    const COMMON: &[i64] = &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_pread64,
        libc::SYS_close,
        libc::SYS_close_range,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_lseek,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_openat,
        libc::SYS_getdents64,
        libc::SYS_getcwd,
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_nanosleep,
        libc::SYS_clock_nanosleep,
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_gettimeofday,
        libc::SYS_times,
        libc::SYS_getrusage,
        libc::SYS_getpid,
        libc::SYS_getppid,
        libc::SYS_gettid,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_uname,
        libc::SYS_sysinfo,
        libc::SYS_getrandom,
        libc::SYS_futex,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_set_tid_address,
        libc::SYS_membarrier,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_getitimer,
        libc::SYS_setitimer,
        libc::SYS_dup,
        libc::SYS_dup3,
        libc::SYS_umask,
        // Told apart by a filter of its own: `fork` and threads fall back to `clone`.
        libc::SYS_clone3,
    ];

    /// Older spellings that only this processor has.
    #[cfg(target_arch = "x86_64")]
    const OLDER: &[i64] = &[
        libc::SYS_open,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_access,
        libc::SYS_poll,
        libc::SYS_select,
        libc::SYS_dup2,
        libc::SYS_time,
        libc::SYS_getdents,
        libc::SYS_getrlimit,
        libc::SYS_arch_prctl,
        libc::SYS_alarm,
        libc::SYS_pause,
    ];
    #[cfg(not(target_arch = "x86_64"))]
    const OLDER: &[i64] = &[];

    /// What a judge does beside: it makes a candidate, watches and ends it.
    const JUDGE: &[i64] = &[
        libc::SYS_clone,
        libc::SYS_pipe2,
        libc::SYS_wait4,
        libc::SYS_waitid,
        libc::SYS_kill,
        libc::SYS_pidfd_open,
        libc::SYS_prctl,
        libc::SYS_seccomp,
        libc::SYS_prlimit64,
        // The descriptor by which it counts a candidate's threads comes through a pair of sockets.
        libc::SYS_sendmsg,
        libc::SYS_recvmsg,
    ];
    #[cfg(target_arch = "x86_64")]
    const OLDER_JUDGE: &[i64] = &[
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_pipe,
        libc::SYS_setrlimit,
    ];
    #[cfg(not(target_arch = "x86_64"))]
    const OLDER_JUDGE: &[i64] = &[];

    /// The filters for this processor.
    pub(in super::super) fn filters() -> Result<Filters, String> {
        let build = || -> Result<Filters, seccompiler::BackendError> {
            let no_clone3 = hex(&failing(libc::SYS_clone3, libc::ENOSYS)?);
            Ok(Filters {
                judge: vec![
                    hex(&allow(
                        &[COMMON, OLDER, JUDGE, OLDER_JUDGE],
                        judge_rules()?,
                    )?),
                    no_clone3,
                ],
                candidate: vec![hex(&allow(&[COMMON, OLDER], candidate_rules()?)?)],
                threads: hex(&ask_about(libc::SYS_clone)),
                no_threads: hex(&failing(libc::SYS_clone, libc::EAGAIN)?),
                seccomp_call: libc::SYS_seccomp,
            })
        };
        build().map_err(|error| format!("no seccomp filter for this processor ({error})"))
    }

    type Rules = Vec<(i64, Vec<SeccompRule>)>;

    /// That an argument of a call has a value of 32 bits.
    fn is(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
        let (length, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        SeccompCondition::new(argument, length, equal, value)
    }

    /// Calls that a judge makes with any arguments, and local sockets: pairs alone.
    fn judge_rules() -> Result<Rules, seccompiler::BackendError> {
        let local = SeccompRule::new(vec![is(0, libc::AF_UNIX as u64)?])?;
        Ok(vec![
            (libc::SYS_socketpair, vec![local]),
            (libc::SYS_fcntl, Vec::new()),
            (libc::SYS_ioctl, Vec::new()),
        ])
    }

    /// Calls that a candidate may make with some arguments only.
    fn candidate_rules() -> Result<Rules, seccompiler::BackendError> {
        let bits = |argument, mask: u64, value: u64| {
            let (length, equal) = (SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask));
            SeccompCondition::new(argument, length, equal, value)
        };
        let one = |condition| SeccompRule::new(vec![condition]);
        let thread = libc::CLONE_THREAD as u64;
        let mut fcntl = Vec::new();
        for command in [
            libc::F_DUPFD,
            libc::F_DUPFD_CLOEXEC,
            libc::F_GETFD,
            libc::F_SETFD,
            libc::F_GETFL,
        ] {
            fcntl.push(one(is(1, command as u64)?)?);
        }
        let mut ioctl = Vec::new();
        for request in [
            libc::TCGETS,
            libc::FIOCLEX,
            libc::FIONCLEX,
            libc::FIONREAD,
            libc::FIONBIO,
            libc::TIOCGWINSZ,
        ] {
            ioctl.push(one(is(1, u64::from(request as u32))?)?);
        }
        Ok(vec![
            // Threads, no processes.
            (libc::SYS_clone, vec![one(bits(0, thread, thread)?)?]),
            // Limits are read, not set.
            (libc::SYS_prlimit64, vec![one(bits(2, u64::MAX, 0)?)?]),
            (libc::SYS_fcntl, fcntl),
            (libc::SYS_ioctl, ioctl),
        ])
    }

    /// A filter that lets these calls through and refuses every other.
    fn allow(calls: &[&[i64]], ruled: Rules) -> Result<BpfProgram, seccompiler::BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for call in calls.iter().flat_map(|calls| calls.iter()) {
            rules.insert(*call, Vec::new());
        }
        rules.extend(ruled);
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        SeccompFilter::new(rules, refused, SeccompAction::Allow, arch()?)?.try_into()
    }

    /// A filter under which one call fails with an error: with `ENOSYS` as if the kernel did not have
    /// it.
    fn failing(call: i64, error: i32) -> Result<BpfProgram, seccompiler::BackendError> {
        let rules = BTreeMap::from([(call, Vec::new())]);
        let error = SeccompAction::Errno(error as u32);
        SeccompFilter::new(rules, SeccompAction::Allow, error, arch()?)?.try_into()
    }

    /// A filter under which the kernel asks the holder of a descriptor about one call. Calls of other
    /// processors' numbers are refused by the filter of allowed ones.
    fn ask_about(call: i64) -> BpfProgram {
        let instruction = |code: u32, jt, jf, k| sock_filter {
            code: code as u16,
            jt,
            jf,
            k,
        };
        let number = u32::try_from(call).unwrap_or(u32::MAX);
        vec![
            // The number of the call is the first field of what a filter sees.
            instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
            instruction(
                libc::BPF_RET | libc::BPF_K,
                0,
                0,
                libc::SECCOMP_RET_USER_NOTIF,
            ),
            instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ]
    }

    fn arch() -> Result<TargetArch, seccompiler::BackendError> {
        TargetArch::try_from(std::env::consts::ARCH)
    }

    /// The instructions as the kernel reads them: 16 bits of code, two jumps of 8, 32 of operand.
    fn hex(program: &BpfProgram) -> String {
        let mut text = String::with_capacity(program.len() * 16);
        for instruction in program {
            let [c0, c1] = instruction.code.to_ne_bytes();
            let [k0, k1, k2, k3] = instruction.k.to_ne_bytes();
            for byte in [c0, c1, instruction.jt, instruction.jf, k0, k1, k2, k3] {
                text.push_str(&format!("{byte:02x}"));
            }
        }
        text
    }
}
