"""Names of many places, in the scripts in which they are written there: made up, nobody's."""

from random import Random

BRAZIL = (
    (
        "Ana Maria João José Antônio Francisco Carlos Paulo Pedro Lucas Luiz Marcos "
        "Rafael Júlia Beatriz Luísa Letícia Amanda Bruna Camila Débora Inês Márcia "
        "Patrícia Sônia Vitória Caio Davi Enzo Gabriel Heitor Miguel Otávio Tiago "
        "Vinícius Zélia Conceição Aparecida Raimundo Sebastião"
    ).split(),
    (
        "Silva Santos Oliveira Souza Rodrigues Ferreira Alves Pereira Lima Gomes Costa "
        "Ribeiro Martins Carvalho Araújo Melo Barbosa Cardoso Rocha Dias Nascimento "
        "Andrade Moreira Nunes Marques Machado Mendes Freitas Ramos Gonçalves Teixeira "
        "Vieira Monteiro Correia Assunção Brandão"
    ).split(),
)
WORLD = (
    BRAZIL,
    (
        (
            "Zoë Øyvind Łucja Jürgen Siân François Mária Þóra Čeněk Ömer Ștefan Ilse Björn Agnès"
        ).split(),
        (
            "Ångström O'Brien Müller Dvořáková Żak Þórsson Yilmaz Popescu Lefèvre Núñez Jørgensen"
        ).split(),
    ),
    (
        "Анна Иван Ольга Дмитрий Елена Сергей Наталья Богдан Љубица".split(),
        "Иванова Шевченко Петров Ковальчук Смирнова Ђорђевић Соколов".split(),
    ),
    ("Ελένη Γιώργος Μαρία Νίκος Σοφία".split(), "Παπαδοπούλου Νικολάου Γεωργίου Οικονόμου".split()),
    ("محمد فاطمة أحمد مريم يوسف عائشة".split(), "الحسن العلي المصري النجار حداد".split()),
    ("अनिल सुनीता राजेश प्रिया मोहन".split(), "शर्मा वर्मा पटेल गुप्ता यादव".split()),
    ("伟 芳 娜 秀英 敏 静 丽 强 磊".split(), "王 李 张 刘 陈 杨 黄 赵".split()),
    ("민준 서연 지후 하은 도윤".split(), "김 이 박 최 정".split()),
    ("さくら 蓮 陽菜 大翔 結衣".split(), "佐藤 鈴木 高橋 田中 渡辺".split()),
)


def draw(random: Random, names: tuple[list[str], list[str]]) -> tuple[str, str]:
    """Draw a given name and a family name; half of all people have two of the first."""
    given, family = names
    first = random.choice(given)
    if random.random() < 0.5:
        first = f"{first} {random.choice(given)}"
    return first, random.choice(family)
