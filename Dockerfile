# A CPU image: docker build -t xaicompare . && docker run --rm -v "$PWD:/data" xaicompare run digits --out /data/runs/digits
FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY benchmarks benchmarks
COPY xaicompare xaicompare
RUN pip install --no-cache-dir --constraint constraints.txt .
WORKDIR /data
ENV XAICOMPARE_DATA=/data XAICOMPARE_CACHE=/data/.xaicompare
ENTRYPOINT ["xaicompare"]
CMD ["--help"]
