//! Services in simulated time, called by a worker that has always more records than the limit allows. From a seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::{Ended, How, Limiter};
use crate::work::testing::Random;

/// How long the work of a call is, in seconds of a slot of its own.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    Fixed(f64),
    Exponential(f64),
    /// Median, and sigma of its logarithm.
    LogNormal(f64, f64),
    /// One in a hundred takes 50 times as long.
    Outliers(f64),
}

impl Work {
    fn draw(self, random: &mut Random) -> f64 {
        match self {
            Self::Fixed(s) => s,
            Self::Exponential(mean) => -mean * random.share().ln(),
            Self::LogNormal(median, sigma) => median * (sigma * random.normal()).exp(),
            Self::Outliers(s) => {
                let slow = if random.share() < 0.01 { 50.0 } else { 1.0 };
                s * slow * (0.9 + 0.2 * random.share())
            }
        }
    }
}

/// What a call finds.
#[derive(Clone, Debug)]
pub struct Server {
    pub work: Work,
    /// Slots from a time on, in seconds; the first from 0. Zero slots: the service is down and nobody is answered.
    pub slots: Vec<(f64, usize)>,
    pub when_full: WhenFull,
    /// Each call at once makes the work longer by this share, squared calls: threads that contend.
    pub contention: f64,
    /// Slots of what the service calls itself while it holds a slot of its own, and that work.
    pub downstream: Option<(usize, Work)>,
    /// Others take a share of the slots now and then: the share, and the mean length of a spell in seconds.
    pub neighbours: Option<(f64, f64)>,
}

/// What happens to a call when every slot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits, first come, first served.
    Queue,
    /// The slots are cores, and all calls share them.
    Share,
    /// It is turned away with a 503.
    Refuse,
}

impl Server {
    pub fn new(work: Work, slots: usize) -> Self {
        Self {
            work,
            slots: vec![(0.0, slots)],
            when_full: WhenFull::Queue,
            contention: 0.0,
            downstream: None,
            neighbours: None,
        }
    }
}

/// What the calls did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub answered: u64,
    pub busy: u64,
    pub seconds: f64,
    /// Answered calls: when, and how long, in seconds.
    pub took: Vec<(f64, f64)>,
    /// The limit after each answer.
    pub limits: Vec<u32>,
}

impl Outcome {
    /// Answers a second, from a share of the time on.
    pub fn rate(&self, from: f64) -> f64 {
        let from = self.seconds * from;
        let n = self.took.iter().filter(|(at, _)| *at >= from).count();
        n as f64 / (self.seconds - from)
    }

    /// 99th percentile of the time of a call, from a share of the time on.
    pub fn p99(&self, from: f64) -> f64 {
        let from = self.seconds * from;
        let late = self.took.iter().filter(|(at, _)| *at >= from);
        let mut took: Vec<f64> = late.map(|(_, took)| *took).collect();
        took.sort_by(f64::total_cmp);
        took[(took.len() - 1) * 99 / 100]
    }
}

#[derive(Clone, Copy, Debug)]
struct Call {
    began: f64,
    in_flight: u32,
    retried: bool,
}

/// Seconds that a refusal takes, and for which the worker stops calling then.
const REFUSAL_S: f64 = 0.001;
const BACK_OFF_S: f64 = 0.1;

/// What is under way.
struct Run<'a> {
    server: &'a Server,
    random: Random,
    now: f64,
    calls: Vec<Call>,
    free: Vec<usize>,
    waiting: VecDeque<usize>,
    /// By its end: in seconds, or in units of work where slots are shared.
    running: BinaryHeap<(Reverse<u64>, usize)>,
    /// Work that each running call got so far, where slots are shared.
    shared: f64,
    downstream: (BinaryHeap<(Reverse<u64>, usize)>, VecDeque<usize>),
    refused: VecDeque<(f64, usize)>,
    /// Share of the slots that others have, and until when.
    taken: (f64, f64),
}

/// Nanoseconds, so that times have an order.
fn key(seconds: f64) -> Reverse<u64> {
    Reverse((seconds * 1e9) as u64)
}

fn seconds(key: Reverse<u64>) -> f64 {
    key.0 as f64 / 1e9
}

impl Run<'_> {
    fn slots(&self) -> usize {
        let at = self
            .server
            .slots
            .iter()
            .rev()
            .find(|(from, _)| *from <= self.now);
        let slots = at.map_or(0, |(_, slots)| *slots);
        ((slots as f64 * (1.0 - self.taken.0)).round() as usize).max(usize::from(slots > 0))
    }

    /// How fast a call goes on where slots are shared.
    fn speed(&self) -> f64 {
        (self.slots() as f64 / (self.running.len() as f64).max(1.0)).min(1.0)
    }

    fn start(&mut self, call: usize) {
        let at_once = self.running.len() as f64 + 1.0;
        let work = self.server.work.draw(&mut self.random)
            * (1.0 + self.server.contention * at_once * at_once);
        let from = if self.server.when_full == WhenFull::Share {
            self.shared
        } else {
            self.now
        };
        self.running.push((key(from + work), call));
    }

    /// Gives what waits the slots that are free.
    fn fill(&mut self) {
        while !self.waiting.is_empty() && self.held() < self.slots() {
            if let Some(call) = self.waiting.pop_front() {
                self.start(call);
            }
        }
    }

    /// Slots held: also by calls that wait for what is downstream.
    fn held(&self) -> usize {
        self.running.len() + self.downstream.0.len() + self.downstream.1.len()
    }

    fn arrive(&mut self, call: usize) {
        match self.server.when_full {
            WhenFull::Share => self.start(call),
            WhenFull::Refuse if self.held() >= self.slots() => {
                self.refused.push_back((self.now + REFUSAL_S, call));
            }
            WhenFull::Queue | WhenFull::Refuse => {
                self.waiting.push_back(call);
                self.fill();
            }
        }
    }

    /// When a running call ends, if all stays as it is.
    fn running_ends(&self) -> f64 {
        let Some((end, _)) = self.running.peek() else {
            return f64::INFINITY;
        };
        if self.server.when_full != WhenFull::Share {
            return seconds(*end);
        }
        self.now + (seconds(*end) - self.shared).max(0.0) / self.speed()
    }

    /// When the slots change.
    fn slots_change(&self) -> f64 {
        let next = self
            .server
            .slots
            .iter()
            .map(|(from, _)| *from)
            .find(|from| *from > self.now);
        next.unwrap_or(f64::INFINITY).min(self.taken.1)
    }

    fn go_to(&mut self, now: f64) {
        if self.server.when_full == WhenFull::Share {
            self.shared += (now - self.now) * self.speed();
        }
        self.now = now;
        if let Some((share, spell)) = self.server.neighbours
            && now >= self.taken.1
        {
            self.taken.0 = if self.taken.0 > 0.0 { 0.0 } else { share };
            self.taken.1 = now - spell * self.random.share().ln();
        }
    }

    fn call_downstream(&mut self, call: Option<usize>) {
        let Some((slots, work)) = self.server.downstream else {
            return;
        };
        self.downstream.1.extend(call);
        while self.downstream.0.len() < slots
            && let Some(call) = self.downstream.1.pop_front()
        {
            let end = self.now + work.draw(&mut self.random);
            self.downstream.0.push((key(end), call));
        }
    }
}

/// Calls a service as often as `limiter` allows until `answers` are there.
pub fn run(server: &Server, limiter: &mut Limiter, answers: u64, seed: u64) -> Outcome {
    run_with(server, limiter, answers, seed, |_, _| {})
}

/// The same; each ended call is shown first, and may be made another.
pub fn run_with(
    server: &Server,
    limiter: &mut Limiter,
    answers: u64,
    seed: u64,
    mut change: impl FnMut(f64, &mut Ended),
) -> Outcome {
    let mut run = Run {
        server,
        random: Random(seed),
        now: 0.0,
        calls: Vec::new(),
        free: Vec::new(),
        waiting: VecDeque::new(),
        running: BinaryHeap::new(),
        shared: 0.0,
        downstream: (BinaryHeap::new(), VecDeque::new()),
        refused: VecDeque::new(),
        taken: (
            0.0,
            if server.neighbours.is_some() {
                0.0
            } else {
                f64::INFINITY
            },
        ),
    };
    let mut outcome = Outcome::default();
    let mut quiet_until = 0.0;
    let mut again = 0u32;
    while outcome.answered < answers {
        let under_way = |run: &Run| (run.calls.len() - run.free.len()) as u32;
        while run.now >= quiet_until && under_way(&run) < limiter.limit() {
            let call = Call {
                began: run.now,
                in_flight: under_way(&run) + 1,
                retried: again > 0,
            };
            again = again.saturating_sub(1);
            let id = run.free.pop().unwrap_or(run.calls.len());
            if id == run.calls.len() {
                run.calls.push(call);
            } else {
                run.calls[id] = call;
            }
            run.arrive(id);
        }
        let down = run
            .downstream
            .0
            .peek()
            .map_or(f64::INFINITY, |(end, _)| seconds(*end));
        let refused = run.refused.front().map_or(f64::INFINITY, |(end, _)| *end);
        let wake = if run.now < quiet_until {
            quiet_until
        } else {
            f64::INFINITY
        };
        let ends = run.running_ends();
        let next = [down, refused, wake, ends, run.slots_change()]
            .into_iter()
            .fold(f64::INFINITY, f64::min);
        assert!(next.is_finite(), "seed {seed}: nothing will ever happen");
        run.go_to(next.max(run.now));
        let ended = if next == refused {
            quiet_until = run.now + BACK_OFF_S;
            again += 1;
            run.refused.pop_front().map(|(_, id)| (id, How::Busy))
        } else if next == down {
            let id = run.downstream.0.pop().map(|(_, id)| id);
            run.call_downstream(None);
            id.map(|id| (id, How::Answered))
        } else if next == ends {
            let id = run.running.pop().map(|(_, id)| id);
            if server.downstream.is_some() {
                run.call_downstream(id);
                None
            } else {
                id.map(|id| (id, How::Answered))
            }
        } else {
            None
        };
        run.fill();
        let Some((id, how)) = ended else { continue };
        run.free.push(id);
        let call = run.calls[id];
        let how = if how == How::Answered && call.retried {
            How::Retried
        } else {
            how
        };
        let took = run.now - call.began;
        let mut ended = Ended {
            took: Duration::from_secs_f64(took),
            in_flight: call.in_flight,
            how,
        };
        if how == How::Busy {
            outcome.busy += 1;
        } else {
            outcome.answered += 1;
            outcome.took.push((run.now, took));
        }
        change(run.now, &mut ended);
        limiter.ended(Duration::from_secs_f64(run.now), &ended);
        if how != How::Busy {
            outcome.limits.push(limiter.limit());
        }
    }
    outcome.seconds = run.now;
    outcome
}
