-- name: totals
SELECT count(*) AS flights,
       count(*) FILTER (WHERE cost_cents > 0) AS late,
       sum(late_minutes)::BIGINT AS late_minutes,
       round(sum(cost_cents) / 100.0)::BIGINT AS cost_usd,
       round(sum(cost_cents) / 100.0 / count(*), 2) AS usd_per_flight
FROM landed;

-- name: cost_by_airline
SELECT coalesce(airline, carrier) AS airline,
       count(*) AS flights,
       round(100.0 * count(*) FILTER (WHERE cost_cents > 0) / count(*), 1) AS late_percent,
       round(sum(cost_cents) / 100.0)::BIGINT AS cost_usd,
       round(sum(cost_cents) / 100.0 / count(*), 2) AS usd_per_flight
FROM landed
GROUP BY ALL
ORDER BY cost_usd DESC, airline;

-- name: cost_by_month
SELECT format('{:04d}-{:02d}', year, month) AS month,
       count(*) AS flights,
       round(100.0 * count(*) FILTER (WHERE cost_cents > 0) / count(*), 1) AS late_percent,
       round(sum(cost_cents) / 100.0)::BIGINT AS cost_usd,
       round(sum(cost_cents) / 100.0 / count(*), 2) AS usd_per_flight
FROM landed
GROUP BY ALL
ORDER BY month;

-- name: top_reasons
SELECT reason.code AS reason,
       count(*) AS flights,
       sum(reason.minutes)::BIGINT AS minutes,
       round(sum(reason.cents) / 100.0)::BIGINT AS cost_usd
FROM (SELECT unnest(reasons) AS reason FROM landed)
GROUP BY ALL
ORDER BY cost_usd DESC, flights DESC, reason;

-- name: unknown
SELECT what,
       flights,
       round(100.0 * flights / total, 2) AS percent
FROM (
    SELECT count(*) AS total,
           count(*) FILTER (WHERE NOT plane_known) AS plane,
           count(*) FILTER (WHERE NOT dest_known) AS dest,
           count(*) FILTER (WHERE NOT weather_known) AS weather
    FROM landed
) UNPIVOT (flights FOR what IN (plane, dest, weather))
ORDER BY flights DESC;

-- name: checks
-- assert: rows = 0
SELECT wrong, flights
FROM (
    SELECT 'cost is not the sum of its reasons' AS wrong,
           count(*) FILTER (
               WHERE cost_cents <> coalesce(list_sum([reason.cents FOR reason IN reasons]), 0)
           ) AS flights
    FROM landed
    UNION ALL
    SELECT 'cost below zero', count(*) FILTER (WHERE cost_cents < 0) FROM landed
    UNION ALL
    SELECT 'cost without a delay', count(*) FILTER (WHERE cost_cents > 0 AND late_minutes < 15) FROM landed
    UNION ALL
    SELECT 'unknown, and no reason says so',
           count(*) FILTER (
               WHERE plane_known = list_contains([reason.code FOR reason IN reasons], 'plane_unknown')
                  OR dest_known = list_contains([reason.code FOR reason IN reasons], 'dest_unknown')
                  OR weather_known = list_contains([reason.code FOR reason IN reasons], 'weather_unknown')
           )
    FROM landed
    UNION ALL
    SELECT 'landed twice',
           count(*) - count(DISTINCT (year, month, day, carrier, flight, origin, dest, time_hour))
    FROM landed
)
WHERE flights <> 0;
