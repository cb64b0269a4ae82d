use crate::broker::Broker;
use crate::reading::{assigned, open};
use headwater_contract::builders::record;
use headwater_contract::within;
use headwater_core::log::*;
use headwater_kafka::Config;
use std::time::{Duration, Instant};

fn run(f: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(f);
}

#[test]
fn scratch_figures() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(12, &[]).await;
        let t = Instant::now();
        let log = open(broker.config(&topic)).await;
        println!("open {:?}", t.elapsed());
        for _ in 0..3 {
            let t = Instant::now();
            within(log.bounds()).await.unwrap();
            println!("bounds of 12: {:?}", t.elapsed());
        }
        let t = Instant::now();
        within(log.append(vec![record(0, "x")])).await.unwrap();
        println!("first append {:?}", t.elapsed());
        for _ in 0..3 {
            let t = Instant::now();
            within(log.append(vec![record(0, "x")])).await.unwrap();
            println!("append {:?}", t.elapsed());
        }
        for _ in 0..3 {
            let t = Instant::now();
            within(log.oldest_from(0, 1)).await.unwrap();
            println!("oldest {:?}", t.elapsed());
        }
        // 64 callers, 4 KiB records
        for (size, callers, calls) in [(300usize, 64u64, 400u64), (16 * 1024, 64, 100), (256 * 1024, 16, 40)] {
            let mut state = 0x9E37_79B9_7F4A_7C15u64;
            let payload: Vec<u8> = (0..size)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state & 0x3f) as u8
                })
                .collect();
            let payload = bytes_of(payload);
            let t = Instant::now();
            let tasks: Vec<_> = (0..callers)
                .map(|c| {
                    let log = log.clone();
                    let payload = payload.clone();
                    tokio::spawn(async move {
                        for n in 0..calls {
                            log.append(vec![Record { payload: payload.clone(), ..record(((c + n) % 12) as u32, "") }]).await.unwrap();
                        }
                    })
                })
                .collect();
            for t in tasks {
                t.await.unwrap();
            }
            let s = t.elapsed().as_secs_f64();
            let n = (callers * calls) as f64;
            println!("append {size} B x {callers}: {:.0} rec/s {:.1} MB/s", n / s, n * size as f64 / s / 1e6);
        }
        let bounds = log.bounds().await.unwrap();
        let total: u64 = bounds.iter().map(|b| b.end).sum();
        let t = Instant::now();
        let mut sub = log.subscribe("figures").await.unwrap();
        let parts = assigned(sub.as_mut()).await;
        println!("assigned {} after {:?}", parts.len(), t.elapsed());
        let t = Instant::now();
        sub.resume(parts.iter().map(|p| (*p, None)).collect()).await.unwrap();
        println!("resume {:?}", t.elapsed());
        let (mut n, mut bytes, mut deliveries) = (0, 0, 0);
        while n < total {
            if let Delivery::Records { records, .. } = within(sub.next()).await.unwrap() {
                deliveries += 1;
                n += records.len() as u64;
                bytes += records.iter().map(|r| r.payload.len()).sum::<usize>();
            }
        }
        let s = t.elapsed().as_secs_f64();
        println!("read {n} records {:.0} rec/s {:.1} MB/s in {deliveries} deliveries, {s:.2} s", n as f64 / s, bytes as f64 / s / 1e6);
        let t = Instant::now();
        let positions = bounds
            .iter()
            .map(|b| (b.partition, Some(Position { log: log.identity(), partition: b.partition, next: b.end - 1, crc: None })))
            .collect();
        sub.resume(positions).await.unwrap();
        println!("resume again {:?}", t.elapsed());
        let t = Instant::now();
        drop(sub);
        log.close().await;
        println!("left after {:?}", t.elapsed());
    });
}

fn bytes_of(v: Vec<u8>) -> bytes::Bytes {
    v.into()
}

/// stalls for 20 s: membership must stay, nothing lost.
#[test]
fn scratch_stall() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(2, &[]).await;
        let log = open(Config { buffer_bytes: 2 << 20, ..broker.config(&topic) }).await;
        let mut sub = log.subscribe("stall").await.unwrap();
        let parts = assigned(sub.as_mut()).await;
        sub.resume(parts.iter().map(|p| (*p, None)).collect()).await.unwrap();
        for n in 0..40 {
            log.append((0..4).map(|i| record(i % 2, vec![n as u8; 100_000])).collect()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(15)).await;
        let mut at = [0u64; 2];
        while at != [80, 80] {
            match within(sub.next()).await.unwrap() {
                Delivery::Records { partition, from, next, records } => {
                    assert_eq!(from, at[partition as usize]);
                    assert_eq!(records.len() as u64, next - from);
                    at[partition as usize] = next;
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn scratch_kill() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(4, &[]).await;
        let static_id = std::env::var("STATIC").ok();
        let log = open(Config { group_instance_id: static_id, ..broker.config(&topic) }).await;
        let start = Instant::now();
        let appending = {
            let log = log.clone();
            tokio::spawn(async move {
                let (mut sent, mut worst, mut failed) = (0u64, Duration::ZERO, 0);
                while start.elapsed() < Duration::from_secs(40) {
                    let t = Instant::now();
                    match log.append((0..4).map(|p| record(p, format!("{sent}"))).collect()).await {
                        Ok(()) => sent += 4,
                        Err(e) => {
                            println!("{:?} append: {e}", start.elapsed());
                            failed += 1;
                        }
                    }
                    worst = worst.max(t.elapsed());
                }
                println!("sent {sent}, worst append {worst:?}, failed {failed}");
                sent
            })
        };
        let mut sub = log.subscribe(&format!("kill-{topic}")).await.unwrap();
        let mut at = [0u64; 4];
        let mut last = Instant::now();
        loop {
            let next = tokio::time::timeout(Duration::from_secs(3), sub.next()).await;
            match next {
                Err(_) => {
                    println!("{:?} silent, writable {:?}", start.elapsed(), log.writable().await);
                    if appending.is_finished() {
                        break;
                    }
                }
                Ok(Ok(Delivery::Records { partition, from, next, records })) => {
                    if last.elapsed() > Duration::from_secs(1) {
                        println!("{:?} flow back after {:?}", start.elapsed(), last.elapsed());
                    }
                    last = Instant::now();
                    assert_eq!(from, at[partition as usize]);
                    assert_eq!(records.len() as u64, next - from);
                    at[partition as usize] = next;
                }
                Ok(Ok(Delivery::Assigned(p))) => {
                    println!("{:?} assigned {p:?}", start.elapsed());
                    loop {
                        let positions = p
                            .iter()
                            .map(|p| (*p, Some(Position { log: log.identity(), partition: *p, next: at[*p as usize], crc: None })))
                            .collect();
                        match sub.resume(positions).await {
                            Ok(g) => {
                                assert!(g.is_empty());
                                break;
                            }
                            Err(e) => {
                                println!("{:?} resume {e}", start.elapsed());
                                tokio::time::sleep(Duration::from_millis(500)).await;
                            }
                        }
                    }
                }
                Ok(Ok(Delivery::Revoked(p))) => {
                    println!("{:?} revoked {p:?}", start.elapsed());
                    sub.released(&p).await.unwrap();
                }
                Ok(Err(e)) => {
                    println!("{:?} next {e}", start.elapsed());
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
        let sent = appending.await.unwrap();
        println!("read {:?} = {}, sent {sent}", at, at.iter().sum::<u64>());
        assert!(at.iter().sum::<u64>() >= sent);
    });
}

#[test]
fn scratch_late() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(2, &[]).await;
        let log = open(broker.config(&topic)).await;
        log.append((0..20).map(|i| record(i % 2, vec![0; 10])).collect()).await.unwrap();
        let mut sub = log.subscribe(&format!("late-{topic}")).await.unwrap();
        let parts = assigned(sub.as_mut()).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(tokio::time::timeout(Duration::from_secs(1), sub.next()).await.is_err());
        for from in [0u64, 5, 0, 9] {
            let positions =
                parts.iter().map(|p| (*p, Some(Position { log: log.identity(), partition: *p, next: from, crc: None }))).collect();
            let t = Instant::now();
            sub.resume(positions).await.unwrap();
            println!("late resume {:?}", t.elapsed());
            let mut at = [from; 2];
            while at != [10, 10] {
                match within(sub.next()).await.unwrap() {
                    Delivery::Records { partition, from, next, .. } => {
                        assert_eq!(from, at[partition as usize]);
                        at[partition as usize] = next;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        // another joins and this one does not release
        let log2 = open(broker.config(&topic)).await;
        let mut sub2 = log2.subscribe(&format!("late-{topic}")).await.unwrap();
        let t = Instant::now();
        let p2 = tokio::time::timeout(Duration::from_secs(20), sub2.next()).await.unwrap();
        println!("second {p2:?} after {:?}", t.elapsed());
        println!("first {:?}", within(sub.next()).await);
    });
}
