from django.db import migrations

WORDS = (
    "background on a against with the is backdrop in front of red orange yellow green blue pink brown "
    "black white purple violet grey gray wearing hat its head cute lovely pretty beautiful simple nice "
    "happy funny adorable single new blurry ugly low quality worst text watermark deformed noise jpeg "
    "artifacts bad anatomy distorted cropped signature lowres photo grainy picture drawing an "
    "illustration draw image icon product generate please painting sticker left side at to right top "
    "upper part bottom lower middle centre center centered high best masterpiece vector art flat design "
    "clean minimalist 4k 8k highly detailed cartoon style children's book oil watercolour anime "
    "photorealistic realistic sharp focus studio lighting soft light 3d render pixel line ink wash shot "
    "commercial photography vivid colours composition ultra hd trending digital professional resolution "
    "bold outlines thick brush strokes cinematic bokeh concept small tiny little big large huge circle "
    "round shape disc ball square box triangle star five-pointed heart love cup mug coffee teacup shirt "
    "t-shirt tshirt tee t dress gown shoe sneaker running sports phone mobile smartphone cell house home "
    "cottage tree flower blossom fish goldfish cat kitten kitty bear teddy cub rabbit bunny car "
    "automobile toy 背景 背景是 背景为 的背景 在 背景上 底 红 橙 黄 绿 蓝 紫 粉 棕 黑 白 灰 红色 橙色 橘色 橘黄色 黄色 绿色 蓝色 紫色 粉色 粉红色 棕色 褐色 "
    "咖啡色 黑色 白色 灰色 个 颗 件 条 只 部 座 棵 朵 辆 戴着 帽子 戴 的帽子 戴着一顶 头戴 可爱的 漂亮的 简单的 好看的 开心的 美丽的 模糊 低质量 水印 文字 丑陋 变形 画 请画 "
    "生成 一张图片 插画 帮我画 图标 商品图 在左边 在左侧 位于左侧 左边 在右边 在右侧 位于右侧 右边 在上方 在上面 位于顶部 在顶部 在下方 在下面 位于底部 在底部 在中间 居中 在中央 "
    "位于中心 高清 高质量 卡通风格 简约 扁平风格 儿童绘本 水彩 油画 水墨画 精致 写实 插画风格 杰作 电商图 小的 很小的 小小的 小号 大的 很大的 大大的 巨大的 大号 圆形 圆 圆圈 球 "
    "正方形 方形 方块 三角形 三角 星星 五角星 星形 星 心形 爱心 心 桃心 杯子 茶杯 咖啡杯 马克杯 恤 衬衫 上衣 恤衫 裙子 连衣裙 裙 鞋子 鞋 运动鞋 球鞋 手机 智能手机 电话 房子 "
    "房屋 屋子 小房子 树 树木 大树 小树 花 花朵 小花 鲜花 鱼 小鱼 金鱼 鱼儿 猫 小猫 猫咪 小猫咪 熊 小熊 泰迪熊 熊宝宝 兔子 小兔子 小兔 兔兔 汽车 小汽车 轿车 车 小车 and "
    "one it that which some my from for 一 一个 的 是 和"
)


def add(apps, schema_editor):
    """The shipped models know these words and no others: clients can say so before a picture is paid for."""
    for model in apps.get_model("generation", "ImageModel").objects.filter(source="mini", family="sd15"):
        model.options = {"words": WORDS, **model.options}
        model.save(update_fields=["options"])


class Migration(migrations.Migration):
    dependencies = [("generation", "0012_idempotent_answers")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
